"""What a long step is doing, for whoever waits: bars with time left, spinners where nothing counts.

A job of a grid has no terminal: where `GLAM_PROGRESS_FILE` names a file, the same figures are
written there (atomically, at most twice a second), and the grid's live table reads them.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import TimeElapsedColumn as ElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from glam.units import clock, duration, in_message, reading

T = TypeVar("T")
PROGRESS_FILE = "GLAM_PROGRESS_FILE"
LINE_SECONDS = 60.0
STAGE_SECONDS = 2.0  # off a terminal, stages shorter than this are not mentioned
STAGE_WIDTH, BAR_WIDTH, LEAST_BAR = 22, 24, 8
GAP = 2
UNITS = {"tokens_per_second": "tokens/s"}  # notes whose number has a unit and no name


def stderr_console() -> Console:
    """For what moves. Rich would draw into a notebook's page by its own means."""
    return Console(stderr=True, force_jupyter=False)


def moves(console: Console) -> bool:
    """Whether bars may move there: on a terminal. FORCE_COLOR, which many CI services set, makes a
    file no terminal; a dumb one, as an editor's shell, cannot go back on its line."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


# One for all: rich shows a bar below a spinner that is still there only on the same console.
_console = stderr_console()


@contextmanager
def stage(what: str) -> Generator[None]:
    """Names a step that has nothing to count: a spinner on a terminal, at once; elsewhere a line,
    once it has taken `STAGE_SECONDS`."""
    _write_progress({"stage": what, "done": 0, "total": 1, "seconds_left": None})
    if moves(_console):
        columns = (SpinnerColumn(), TextColumn("{task.description}"), ElapsedColumn())
        with Progress(*columns, console=_console, transient=True) as shown:
            shown.add_task(what, total=None)
            yield
        return
    line = threading.Timer(STAGE_SECONDS, _say, [f"{what} …"])
    line.daemon = True
    line.start()
    try:
        yield
    finally:
        line.cancel()


_starting = ExitStack()


def show_start() -> None:
    """A spinner from the first moment of the process, on a terminal: Hydra takes a second or two
    before a task can say what it does. `end_start` takes it away."""
    if moves(_console):
        _starting.enter_context(stage("starting"))


def end_start() -> None:
    """The task begins, or the command is refused."""
    _starting.close()


class Bar:
    """A running step: `advance` it; `note` shows figures beside it (loss, tokens/s). Off a terminal
    it says a line a minute, and one at its end."""

    def __init__(
        self, stage: str, total: int, unit: str = "", console: Console | None = None
    ) -> None:
        self.stage, self.total, self.unit, self.done = stage, total, unit, 0
        self.notes: dict[str, float] = {}
        self._base = 0  # done before this process started: says nothing of its speed
        self._began = time.monotonic()
        self._written = 0.0
        console = console or _console
        self._quiet = not moves(console)
        self._rich = Progress(_Line(self, console), console=console, disable=self._quiet)
        self._rich.add_task(stage, total=total)
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
            _say(f"{self.stage}: {self._amount(self.done - self._base)} in {_took(self.elapsed)}")

    def start_at(self, done: int) -> None:
        """Set where a resumed step begins, so that the time left counts this process alone."""
        self._base = self.done = done

    def advance(self, by: int = 1, **notes: float) -> None:
        self.done += by
        self.notes.update(notes)
        self._publish()
        if self._quiet and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            left = "" if self.seconds_left is None else f", {_took(self.seconds_left)} left"
            done = f"{self.done:,} of {self._amount(self.total)}"
            _say(f"{self.stage}: {done}{left}  {'  '.join(self.note_texts())}".rstrip())

    def note_texts(self) -> list[str]:
        """The notes as they are shown, in the order in which they came."""
        return [
            f"{reading(value)} {UNITS[name]}" if name in UNITS else f"{name} {reading(value)}"
            for name, value in self.notes.items()
        ]

    def _amount(self, number: int) -> str:
        return f"{number:,} {self.unit}".rstrip()

    @property
    def elapsed(self) -> float:
        """Seconds."""
        return time.monotonic() - self._began

    @property
    def seconds_left(self) -> float | None:
        fresh = self.done - self._base
        if fresh <= 0:
            return None
        return self.elapsed / fresh * (self.total - self.done)

    def _publish(self, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._written < 0.5:
            return
        self._written = now
        figures = {
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "seconds_left": self.seconds_left,
        }
        _write_progress(figures | self.notes)


class _Line(ProgressColumn):
    """The whole line of a bar, fitted to the terminal's width: count, elapsed time and time left
    are always whole; notes go first, then the bar, then letters of the name."""

    max_refresh = None  # at every refresh: the bar's own figures change, not rich's

    def __init__(self, bar: Bar, console: Console) -> None:
        super().__init__()
        self._bar, self._console = bar, console

    def render(self, task: Task) -> Table:
        bar, left = self._bar, self._bar.seconds_left
        figures = [
            f"{bar.done:,}/{bar.total:,}",
            clock(bar.elapsed),
            f"{'-:--' if left is None else clock(left)} left",
        ]
        room = self._console.width - sum(GAP + len(text) for text in figures)
        name = max(0, min(len(bar.stage), room))
        room -= name
        notes = list[str]()
        for note in bar.note_texts():
            if room - GAP - len(note) < GAP + LEAST_BAR:
                break
            notes.append(note)
            room -= GAP + len(note)
        padding = max(0, min(STAGE_WIDTH - name, room - GAP - LEAST_BAR))
        drawn = max(0, min(BAR_WIDTH, room - padding - GAP))
        cells: list[Text | ProgressBar] = [Text(_cut(bar.stage, name).ljust(name + padding))]
        if drawn >= 2:
            cells.append(ProgressBar(total=max(1, bar.total), completed=bar.done, width=drawn))
        cells += [Text(text) for text in (*figures, *notes)]
        line = Table.grid(padding=(0, GAP, 0, 0))
        line.add_row(*cells)
        return line


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else (text[: width - 1] + "…")[:width]


def _took(seconds: float) -> str:
    return in_message(duration(seconds))


def _say(words: str) -> None:
    _console.print(words, highlight=False, soft_wrap=True)


def _write_progress(figures: dict[str, Any]) -> None:
    """Into the file that the grid's table reads, where there is one."""
    target = os.environ.get(PROGRESS_FILE)
    if target is None:
        return
    part = Path(target + ".part")
    with contextlib.suppress(OSError):  # a bar that can't be drawn costs no run
        part.write_text(json.dumps(figures))
        part.replace(target)


@contextmanager
def bar(stage: str, total: int, unit: str = "") -> Generator[Bar]:
    """A `Bar` from the beginning of a step to its end."""
    with Bar(stage, total, unit) as running:
        yield running


def track(items: Iterable[T], stage: str, total: int, unit: str = "") -> Iterator[T]:
    """The items, one by one, under a bar."""
    with Bar(stage, total, unit) as running:
        for item in items:
            yield item
            running.advance()
