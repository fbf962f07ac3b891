"""One bar for every long step, with time left; what it shows can be watched from outside.

A job of a grid has no terminal: where `GLAM_PROGRESS_FILE` names a file, the same figures are
written there (atomically, at most twice a second), and the grid's live table reads them.
"""

import contextlib
import json
import os
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from glam.units import reading

T = TypeVar("T")
PROGRESS_FILE = "GLAM_PROGRESS_FILE"
LINE_SECONDS = 60.0


class Bar:
    """A running step: `advance` it; `note` shows figures beside it (loss, tokens/s). Off a terminal
    it says a line a minute, and one at its end."""

    def __init__(self, stage: str, total: int, unit: str = "") -> None:
        self.stage, self.total, self.unit, self.done = stage, total, unit, 0
        self.notes: dict[str, float] = {}
        self._base = 0  # done before this process started: says nothing of its speed
        self._began = time.monotonic()
        self._written = 0.0
        console = Console(stderr=True)
        columns: list[ProgressColumn] = [
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[notes]}"),
        ]
        self._rich = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._rich.add_task(stage, total=total, notes="")
        self._quiet = not console.is_terminal
        self._said = self._began

    def __enter__(self) -> Self:
        self._rich.start()
        self._publish(force=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._publish(force=True)
        self._rich.stop()
        if self._quiet and kind is None:
            seconds = time.monotonic() - self._began
            self._say(f"{self._amount(self.done - self._base)} in {seconds:.1f} s")

    def start_at(self, done: int) -> None:
        """Set where a resumed step begins, so that the time left counts this process alone."""
        self._base = self.done = done
        self._rich.reset(self._task, completed=done)

    def advance(self, by: int = 1, **notes: float) -> None:
        self.done += by
        self.notes.update(notes)
        text = "  ".join(f"{name} {reading(value)}" for name, value in self.notes.items())
        self._rich.update(self._task, completed=self.done, notes=text)
        self._publish()
        if self._quiet and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            left = "" if self.seconds_left is None else f", {self.seconds_left / 60:.1f} min left"
            self._say(f"{self.done:,} of {self._amount(self.total)}{left}  {text}")

    def _amount(self, number: int) -> str:
        return f"{number:,} {self.unit}".rstrip()

    def _say(self, words: str) -> None:
        Console(stderr=True).print(f"{self.stage}: {words}".rstrip(), highlight=False)

    @property
    def seconds_left(self) -> float | None:
        fresh = self.done - self._base
        if fresh <= 0:
            return None
        return (time.monotonic() - self._began) / fresh * (self.total - self.done)

    def _publish(self, force: bool = False) -> None:
        target = os.environ.get(PROGRESS_FILE)
        now = time.monotonic()
        if target is None or (not force and now - self._written < 0.5):
            return
        self._written = now
        fields = {
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "seconds_left": self.seconds_left,
            **self.notes,
        }
        part = Path(target + ".part")
        with contextlib.suppress(OSError):  # a bar that can't be drawn costs no run
            part.write_text(json.dumps(fields))
            part.replace(target)


@contextmanager
def bar(stage: str, total: int, unit: str = "") -> Generator[Bar]:
    with Bar(stage, total, unit) as running:
        yield running


def track(items: Iterable[T], stage: str, total: int, unit: str = "") -> Iterator[T]:
    """The items, one by one, under a bar."""
    with Bar(stage, total, unit) as running:
        for item in items:
            yield item
            running.advance()
