"""How far the sets of kernels differ, and where digits are the same bit for bit."""

import glam  # noqa: F401  # before torch, which else looks for a TPU by itself where torch_tpu is
