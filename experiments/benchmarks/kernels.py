"""A training step with the kernels of `glam/kernels` and without them: what a machine without a C
compiler, or `GLAM_KERNELS=off`, runs on. Where gradients are large, also with memory mapped anew
for them at every step."""

import dataclasses
import sys
from collections.abc import Iterator
from unittest.mock import patch

import torch

from experiments.benchmarks.layer import TYPES
from experiments.benchmarks.step import LARGE, LENGTH, ROWS, step
from experiments.benchmarks.timing import Work, interleaved
from glam import kernels
from glam.config import ModelConfig
from glam.model import gradient_pool as kept

REFERENCE = "torch's operators"


def measure() -> Iterator[dict[str, object]]:
    models = {
        "default, dense": (ModelConfig(num_experts=1), 8, 128),
        "default, E 16": (ModelConfig(num_experts=16), 8, 128),
        "L 4 M 256 E 16": (LARGE, ROWS, LENGTH),
    }
    for name, (config, rows, length) in models.items():
        for dtype_name, dtype in TYPES.items():
            works = {
                REFERENCE: without(step(config, dtype, rows, length)),
                "with kernels": step(config, dtype, rows, length),
            }
            label = f"kernels, {name} {dtype_name}"
            for row in interleaved(works, REFERENCE, rounds=7, turn=0.4, label=label):
                yield {"model": name, "dtype": dtype_name, **row}
    yield from _large_gradients()


def _large_gradients() -> Iterator[dict[str, object]]:
    config = dataclasses.replace(LARGE, num_experts=64)
    works = {
        REFERENCE: without(step(config, torch.bfloat16, ROWS, LENGTH)),
        "with kernels, memory mapped anew": anew(step(config, torch.bfloat16, ROWS, LENGTH)),
        "with kernels": step(config, torch.bfloat16, ROWS, LENGTH),
    }
    for row in interleaved(works, REFERENCE, rounds=7, label="kernels, large gradients"):
        yield {"model": "L 4 M 256 E 64", "dtype": "bfloat16", **row}


def anew(work: Work) -> Work:
    def run() -> None:
        with patch.object(kept, "POOLED_FROM", sys.maxsize):
            work()

    return run


def without(work: Work) -> Work:
    def run() -> None:
        with kernels.switched_off():
            work()

    return run
