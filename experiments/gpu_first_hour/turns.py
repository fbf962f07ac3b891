"""Candidates that take turns on one device: seconds of a call, and ratios of the same round."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

Work = Callable[[], object]
ROUNDS, TURN = 7, 0.05  # turns of a candidate; seconds of one


class Turn(NamedTuple):
    """Of one candidate."""

    seconds: float  # of a call: the median of its rounds
    ratio: float  # to the reference: the median of the rounds' ratios


def wait() -> None:
    """Until the device has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Work, calls: int) -> float:
    """Of a call."""
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        work()
    wait()
    return (time.perf_counter() - start) / calls


def turns(candidates: Mapping[str, Work], reference: str) -> dict[str, Turn]:
    """Every candidate is called once beforehand, which compiles what it has to compile."""
    for work in candidates.values():
        work()
    calls = {name: max(1, round(TURN / seconds(work, 1))) for name, work in candidates.items()}
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, work in candidates.items():
            taken[name].append(seconds(work, calls[name]))
    return {
        name: Turn(
            statistics.median(mine),
            statistics.median(a / b for a, b in zip(mine, taken[reference], strict=True)),
        )
        for name, mine in taken.items()
    }
