"""Energy of a run by phase: training, evaluation and preparation."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Protocol

from glam.machine.seconds_by_phase import SecondsByPhase

PURPOSES = ("training", "evaluation", "preparation")


class Meter(Protocol):
    """Energy since `start`, from a reading or a model."""

    def start(self) -> None: ...
    def joules(self) -> float: ...


class EnergyByPhase:
    """Joules by phase. Energy between phases is not counted. Without a meter every phase stays at
    zero. `seconds` goes through the same phases."""

    def __init__(self, meter: Meter | None = None) -> None:
        self._meter = meter
        self.seconds = SecondsByPhase()
        self._spent: dict[str, float] = dict.fromkeys(PURPOSES, 0.0)
        self._purpose: str | None = None
        self._read = 0.0  # where the meter stood when it was last read
        if meter is not None:
            meter.start()

    @contextmanager
    def on(self, purpose: str) -> Generator[None]:
        before = self._purpose
        self.set_phase(purpose)
        try:
            yield
        finally:
            self.set_phase(before)

    def set_phase(self, purpose: str | None) -> None:
        """The phase that energy is counted for from now on; None: not counted."""
        self._settle()
        self._purpose = purpose
        self.seconds.enter(purpose)

    @property
    def joules(self) -> dict[str, float]:
        """By phase, of this and all earlier segments of the run."""
        self._settle()
        return dict(self._spent)

    def add(self, earlier: Mapping[str, float]) -> None:
        """Adds the joules of earlier segments of the run, each up to its checkpoint."""
        for purpose, joules in earlier.items():
            self._spent[purpose] += joules

    def _settle(self) -> None:
        if self._meter is None:
            return
        now = self._meter.joules()
        if self._purpose is not None:
            self._spent[self._purpose] += now - self._read
        self._read = now
