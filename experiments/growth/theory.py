"""What a step should take, by what `glam/planning` counts: products at the rate of the largest
product here, and bytes at the rate of memory here, one after the other.

Nothing of a figure is fitted but one constant, the mean departure of its points: theory says how
cost grows, and the constant how far from the limits all of them are. The cost of a step that
computes nothing (the calls of as many layers) is measured apart, and not part of the constant.
"""

import math
from typing import NamedTuple

import torch

from experiments.benchmarks.step import gemm_peak
from experiments.benchmarks.timing import interleaved
from glam.config import ModelConfig, RunConfig, TrainingConfig
from glam.machine.resources import Precision
from glam.planning.memory import ALLOCATOR, memory

BACKWARD = 3  # forward once, backward twice
# What a step does with each weight's bytes: read forward and backward; its gradient written, read
# for the norm, and read and written where it is clipped; then the update reads weight and gradient
# and writes the weight. Optimizer state is read and written.
WEIGHTS, GRADIENTS, STATE = 4, 5, 2
ACTIVATIONS = 2  # written forward, read backward
BYTES_READ = 2**28  # more than any cache holds


class Machine(NamedTuple):
    """One thread of it, in one type."""

    flops_per_second: float
    bytes_per_second: float

    @classmethod
    def measured(cls, dtype: torch.dtype) -> "Machine":
        return cls(gemm_peak(dtype), _bandwidth())


def _bandwidth() -> float:
    """Bytes a second of adding one large vector to another: two are read and one is written."""
    a, b = torch.ones(BYTES_READ // 4), torch.ones(BYTES_READ // 4)
    (row,) = interleaved({"add": lambda: a.add_(b)}, "add", rounds=5, label="bandwidth")
    milliseconds = row["ms"]
    assert isinstance(milliseconds, float)
    return 3 * BYTES_READ / (milliseconds / 1e3)


class Step(NamedTuple):
    """A training step by its sizes."""

    model: ModelConfig
    rows: int
    length: int
    precision: Precision

    @property
    def _config(self) -> RunConfig:
        training = TrainingConfig(batch_size=self.rows, sequence_length=self.length)
        return RunConfig(model=self.model, training=training)

    @property
    def flops(self) -> int:
        return BACKWARD * self._config.flops_per_token * self.rows * self.length

    @property
    def bytes_moved(self) -> float:
        planned = memory(self._config, self.precision)
        weights = WEIGHTS * planned.weights + GRADIENTS * planned.gradients
        kept = ACTIVATIONS * planned.activations / ALLOCATOR
        return weights + STATE * planned.optimizer + kept

    @property
    def bytes_held(self) -> float:
        """At the peak: without the interpreter, and without what malloc holds over."""
        planned = memory(self._config, self.precision)
        tensors = planned.weights + planned.optimizer + planned.gradients
        return tensors + planned.activations / ALLOCATOR

    @property
    def bytes_between(self) -> float:
        """Weights and optimizer state, which are there before a step and after it."""
        planned = memory(self._config, self.precision)
        return planned.weights + planned.optimizer

    def seconds(self, machine: Machine) -> float:
        """At the machine's limits."""
        return self.flops / machine.flops_per_second + self.bytes_moved / machine.bytes_per_second


def constant(measured: list[float], theory: list[float]) -> float:
    """By which theory is multiplied to lie among the points: their geometric mean."""
    logs = [math.log(one / other) for one, other in zip(measured, theory, strict=True)]
    return math.exp(sum(logs) / len(logs))
