"""Benchmarks: parts of glam beside Hugging Face's and torch's, taking turns in one process."""

import glam  # noqa: F401  # before torch, which else looks for a TPU by itself where torch_tpu is
