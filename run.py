"""GLaM experiments: `python run.py --help`."""

import os
import sys

from glam.cli import INTERRUPTED, main
from glam.machine.processes import under_torchrun

if __name__ == "__main__":
    status = main(sys.argv[1:])
    # At once: a thread that is in SentencePiece hears no Ctrl-C, and one of gloo's, where processes
    # work together, aborts the interpreter now and then when it wants it at its end.
    if status == INTERRUPTED or under_torchrun():
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
