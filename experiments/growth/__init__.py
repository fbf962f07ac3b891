"""How the cost of a step, of a run and of an installation grows, beside what theory says."""

import glam  # noqa: F401  # before torch, which else looks for a TPU by itself where torch_tpu is
