"""Where the time of a run goes: seconds of its process by phase."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

import psutil

START, TRAINING, END = "start", "training", "end"


class Seconds(NamedTuple):
    """Of one phase, in this process."""

    wall: float  # by the clock
    cpu: float  # of all threads
    times: int  # how often the phase was entered, after another within it too


class SecondsByPhase:
    """Seconds since the process began, by phase. A phase within another is not counted for it, so
    they add up to the whole. Between phases it is `start` until the first step, then `end`."""

    def __init__(self) -> None:
        age = time.time() - psutil.Process().create_time()
        self._spent = {START: Seconds(0.0, 0.0, 1)}
        self._phase = START
        self._wall, self._cpu = time.perf_counter() - age, 0.0  # when it was last read

    @contextmanager
    def on(self, phase: str) -> Generator[None]:
        before = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self._go(before)

    def enter(self, phase: str | None) -> None:
        """The phase from now on; None: none of those that have a name."""
        self._go(phase or (END if TRAINING in self._spent else START))

    def _go(self, phase: str) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self._add(self._phase, wall - self._wall, cpu - self._cpu, 0)
        self._add(phase, 0.0, 0.0, int(phase != self._phase))
        self._phase, self._wall, self._cpu = phase, wall, cpu

    def _add(self, phase: str, wall: float, cpu: float, times: int) -> None:
        spent = self._spent.get(phase, Seconds(0.0, 0.0, 0))
        self._spent[phase] = Seconds(spent.wall + wall, spent.cpu + cpu, spent.times + times)

    @property
    def spent(self) -> dict[str, Seconds]:
        """By phase, in the order in which they began."""
        self._go(self._phase)
        return dict(self._spent)
