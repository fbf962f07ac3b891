"""Benchmarks: parts of glam beside Hugging Face's and torch's, taking turns in one process."""
