"""How a step's time and memory grow with each size, and the exponent between two points."""

import dataclasses
import math
from collections.abc import Iterator

import torch

from experiments.benchmarks.step import step
from experiments.benchmarks.timing import interleaved, peak_bytes
from glam.config import ModelConfig

BASE = ModelConfig(vocab_size=4096, num_layers=4, d_model=128, d_ff=512, num_heads=4, num_experts=8)
ROWS, LENGTH = 8, 128
AXES = {
    "num_experts": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "tokens": (512, 1024, 2048, 4096),
    "sequence_length": (128, 256, 512, 1024),
    "vocab_size": (2048, 4096, 8192, 16384, 32768),
    "num_layers": (2, 4, 8, 16),
}


def measure() -> Iterator[dict[str, object]]:
    for axis, values in AXES.items():
        works = {str(value): step(*_sizes(axis, value)) for value in values}
        reference = str(values[0])
        rows = interleaved(works, reference, rounds=5, turn=0.05, label=f"growth with {axis}")
        before: tuple[int, float, int] | None = None
        for value, row in zip(values, rows, strict=True):
            now = (value, float(str(row["ms"])), peak_bytes(works[str(value)]))
            yield {
                "axis": axis,
                "value": value,
                **{key: row[key] for key in ("ms", "ratio", "low", "high")},
                "peak_mb": now[2] / 1e6,
                "time_exponent": _exponent(before, now, 1),
                "memory_exponent": _exponent(before, now, 2),
            }
            before = now


def _sizes(axis: str, value: int) -> tuple[ModelConfig, torch.dtype, int, int]:
    """Model, type, rows, length. Along `sequence_length` the tokens of a step stay the same."""
    rows, length, config = ROWS, LENGTH, BASE
    if axis == "tokens":
        rows = value // LENGTH
    elif axis == "sequence_length":
        rows, length = 2048 // value, value
    else:
        config = dataclasses.replace(BASE, **{axis: value})
    return config, torch.bfloat16, rows, length


def _exponent(
    before: tuple[int, float, int] | None, now: tuple[int, float, int], index: int
) -> float | None:
    if before is None or before[index] <= 0:
        return None
    return math.log(now[index] / before[index]) / math.log(now[0] / before[0])
