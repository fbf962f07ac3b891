"""Step time and memory against each size of a step, and against threads.

Time is of one thread, by the processor's clock, in turns (`experiments/benchmarks/timing.py`).
Memory is the most that torch holds in a step, weights and optimizer state included.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence

import torch
from rich.progress import track

from experiments.benchmarks.step import step
from experiments.benchmarks.timing import Work, interleaved, peak_bytes
from experiments.growth.theory import Machine, Step, constant
from glam.config import ModelConfig
from glam.machine.resources import Precision

BASE = ModelConfig(vocab_size=4096, num_layers=4, d_model=128, d_ff=512, num_heads=4, num_experts=8)
ROWS, LENGTH = 8, 128
TOKENS_OF_LENGTHS = 4096  # in a step, whatever the length
HEAD = 32
AXES = {
    "tokens": (512, 1024, 2048, 4096, 8192, 16384),
    "width": (64, 128, 256, 512, 1024),
    "experts": (8, 16, 32, 64, 128, 256, 512),
    "length": (128, 256, 512, 1024, 2048, 4096),
    "vocabulary": (2048, 4096, 8192, 16384, 32768, 65536),
}
THREADS = (1, 2)
TYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Row = dict[str, object]


def measure(axes: Sequence[str], precisions: Sequence[Precision], rounds: int = 5) -> Iterator[Row]:
    for precision in precisions:
        machine = Machine.measured(TYPES[precision])
        for axis in axes:
            if axis == "threads":
                yield from _threads(precision, rounds)
            else:
                yield from _along(axis, precision, machine, rounds)


def sized(axis: str, value: int, precision: Precision) -> Step:
    """The step of that size. Along `length` its tokens stay the same."""
    model, rows, length = BASE, ROWS, LENGTH
    match axis:
        case "tokens":
            rows = value // LENGTH
        case "width":
            model = dataclasses.replace(
                BASE, d_model=value, d_ff=4 * value, num_heads=value // HEAD
            )
        case "experts":
            model = dataclasses.replace(BASE, num_experts=value)
        case "length":
            rows, length = TOKENS_OF_LENGTHS // value, value
        case "vocabulary":
            model = dataclasses.replace(BASE, vocab_size=value)
        case _:
            raise ValueError(axis)
    return Step(model, rows, length, precision)


def _along(axis: str, precision: Precision, machine: Machine, rounds: int) -> Iterator[Row]:
    steps = {str(value): sized(axis, value, precision) for value in AXES[axis]}
    works = {value: _work(one) for value, one in steps.items()}
    works["calls"] = _work(_of_calls(precision))
    label = f"{axis}, {precision}"
    turns = interleaved(works, "calls", rounds=rounds, turn=0.05, label=label)
    seconds = {str(row["candidate"]): float(str(row["ms"])) / 1e3 for row in turns}
    calls = seconds.pop("calls")
    held = {value: one.bytes_between + peak_bytes(works[value]) for value, one in steps.items()}
    limits = {value: one.seconds(machine) for value, one in steps.items()}
    above = [max(1e-6, taken - calls) for taken in seconds.values()]
    factor = constant(above, list(limits.values()))
    planned = {value: one.bytes_held for value, one in steps.items()}
    share = constant(list(held.values()), list(planned.values()))
    for value in steps:
        line = calls + factor * limits[value]
        yield {
            "axis": axis,
            "value": int(value),
            "precision": precision,
            "ms": 1e3 * seconds[value],
            "line_ms": 1e3 * line,
            "departure": seconds[value] / line - 1,
            "calls_ms": 1e3 * calls,
            "times_limit": factor,
            "gflop": steps[value].flops / 1e9,
            "gbyte": steps[value].bytes_moved / 1e9,
            "gflop_per_s": machine.flops_per_second / 1e9,
            "gbyte_per_s": machine.bytes_per_second / 1e9,
            "mb": held[value] / 1e6,
            "line_mb": share * planned[value] / 1e6,
            "memory_departure": held[value] / (share * planned[value]) - 1,
            "times_planned": share,
        }


def _of_calls(precision: Precision) -> Step:
    """As many layers as the others have, of sizes at which calls are all that a step costs."""
    tiny = dataclasses.replace(BASE, vocab_size=64, d_model=32, d_ff=32, num_heads=1, num_experts=2)
    return Step(tiny, 1, 32, precision)


def _work(one: Step) -> Work:
    torch.manual_seed(0)
    return step(one.model, TYPES[one.precision], one.rows, one.length)


def _threads(precision: Precision, rounds: int) -> Iterator[Row]:
    """By the wall clock, which other work on the machine spoils, and by what the first thread
    computes itself: what the wall clock would say if no thread ever waited for a core."""
    work = _work(sized("tokens", 8192, precision))
    taken: dict[int, list[tuple[float, float]]] = {number: [] for number in THREADS}
    for _ in track(range(rounds), f"threads, {precision}", transient=True):
        for number, seconds in taken.items():
            torch.set_num_threads(number)
            work()
            wall, own = time.perf_counter(), time.thread_time()
            work()
            seconds.append((time.perf_counter() - wall, time.thread_time() - own))
    torch.set_num_threads(1)
    for what, place in (("threads", 1), ("threads, wall clock", 0)):
        best = {n: min(one[place] for one in seconds) for n, seconds in taken.items()}
        for number, seconds in best.items():
            line = best[1] / number
            yield {
                "axis": what,
                "value": number,
                "precision": precision,
                "ms": 1e3 * seconds,
                "line_ms": 1e3 * line,
                "departure": seconds / line - 1,
            }
