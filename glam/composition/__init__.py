"""From a typed command line to checked configurations. Beside `cli`, the only code that knows
Hydra."""
