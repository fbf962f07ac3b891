"""Side by side in one process: candidates take turns, so that what slows the machine slows all.

Time is the process's CPU time on one thread: a neighbour's load hardly shows in it, and one
thread waits for nobody. A ratio is the median over rounds of (a candidate's turn / the
reference's turn of the same round), with its quartiles.
"""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from rich.progress import track
from torch.profiler import ProfilerActivity, profile

from glam.machine.resources import frozen_gc, tune_malloc
from glam.model.gradient_pool import pooling

Work = Callable[[], object]


def one_thread() -> None:
    """How every benchmark here runs, peers included."""
    torch.set_num_threads(1)
    tune_malloc()


def interleaved(
    candidates: Mapping[str, Work],
    reference: str,
    *,
    rounds: int = 9,
    turn: float = 0.1,
    label: str = "",
) -> list[dict[str, object]]:
    """One row per candidate: milliseconds per call, and its ratio to `reference`.

    A turn is as many calls as take `turn` seconds, and at least one.
    """
    for work in candidates.values():  # kernels are compiled when a shape is first met
        work()
    calls = {name: max(1, round(turn / _seconds(work, 1))) for name, work in candidates.items()}
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    with frozen_gc(), pooling():
        for _ in track(range(rounds), label, transient=True):
            for name, work in candidates.items():
                taken[name].append(_seconds(work, calls[name]))
    return [
        {"candidate": name, "ms": 1e3 * statistics.median(seconds)}
        | ratio(seconds, taken[reference])
        for name, seconds in taken.items()
    ]


def ratio(seconds: list[float], reference: list[float]) -> dict[str, object]:
    paired = [mine / other for mine, other in zip(seconds, reference, strict=True)]
    low, middle, high = statistics.quantiles(paired, n=4)
    return {"ratio": middle, "low": low, "high": high}


def _seconds(work: Work, calls: int) -> float:
    """Of one call."""
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls


def peak_bytes(work: Work) -> int:
    """The most that a call holds at once beyond what was there before it. Torch records all of
    it, since nothing is kept from step to step here."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    kineto: Any = cast(Any, profiled.profiler).kineto_results
    events = sorted(
        (event for event in kineto.events() if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    )
    held = most = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most


def machine() -> str:
    """What the figures were measured on, in a line."""
    try:
        info = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        info = []
    lines = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
    cpu = lines[0] if lines else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{cpu}, 1 thread of {len(lines) or '?'} cores, {capability}, torch {version('torch')}"
