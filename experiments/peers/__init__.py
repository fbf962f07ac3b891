"""What a user would pick instead, on the same work, in turns in one process."""

import glam  # noqa: F401  # before torch, which else looks for a TPU by itself where torch_tpu is
