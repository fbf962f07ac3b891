"""How busy other processes keep the processor while something is timed. No torch."""

import time
from typing import NamedTuple, Self

import psutil

BUSY = ("user", "nice", "system", "irq", "softirq")  # of Linux; elsewhere some are missing
TOLERATED = 0.2  # cores: a desktop, a shell and a monitor take less


class OtherLoad(NamedTuple):
    """Means over an interval, in cores."""

    others: float  # kept busy by other processes
    stolen: float  # given to other virtual machines by the hypervisor

    def slows(self, threads: int) -> bool:
        """Whether `threads` threads of this process found fewer free cores than they use."""
        physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
        free = max(0, physical - threads)
        return self.others > free + TOLERATED or self.stolen > TOLERATED

    def __str__(self) -> str:
        kept = f"other processes kept {self.others:.1f} of {psutil.cpu_count() or 1} cores busy"
        return kept + (f", the hypervisor took {self.stolen:.1f}" if self.stolen > 0.05 else "")


class _Reading(NamedTuple):
    """Totals in seconds."""

    wall: float
    busy: float  # of all processes, over all cores
    own: float
    stolen: float


class LoadMeter:
    """Counts from `start` on."""

    def __init__(self) -> None:
        self._start = _read()

    @classmethod
    def start(cls) -> Self:
        return cls()

    def stop(self) -> OtherLoad:
        """The mean load since the start."""
        wall, busy, own, stolen = (
            now - before for now, before in zip(_read(), self._start, strict=True)
        )
        wall = max(wall, 1e-9)
        return OtherLoad(others=max(0.0, busy - own) / wall, stolen=max(0.0, stolen) / wall)


def _read() -> _Reading:
    times, mine = psutil.cpu_times(), psutil.Process().cpu_times()
    return _Reading(
        wall=time.perf_counter(),
        busy=sum(getattr(times, name, 0.0) for name in BUSY),
        own=mine.user + mine.system,
        stolen=getattr(times, "steal", 0.0),
    )
