"""The live table of a grid: state, loss, tokens per second and time left of every job."""

from collections.abc import Iterator
from types import TracebackType
from typing import Literal, NamedTuple, Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from glam.log import log
from glam.progress import moves, stderr_console
from glam.studies.pool import Job
from glam.units import clock

STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "done": "green",
    "diverged": "yellow",
    "failed": "bold red",
    "stopped": "yellow",
}


# What one looks for first, where there is no room for all.
ORDER = ("running", "failed", "diverged", "stopped", "waiting", "done")


class Column(NamedTuple):
    """A column of the live table."""

    title: str
    justify: Literal["left", "right"]
    least: int  # columns of a terminal from which it is shown


COLUMNS = (
    Column("run", "left", 0),
    Column("state", "left", 0),
    Column("progress", "left", 90),
    Column("loss", "right", 50),
    Column("tokens/s", "right", 60),
    Column("left", "right", 0),
)


class LiveTable:
    """Redrawn in place on a terminal; elsewhere one line at every change of state."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.console = stderr_console()
        self._live = Live(console=self.console, auto_refresh=False, transient=False)
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        if moves(self.console):
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if moves(self.console):
            self._live.stop()
        else:
            self.console.print(self.render())

    def update(self) -> None:
        if moves(self.console):
            self._live.update(self.render(), refresh=True)
            return
        for job in self.jobs:
            state = str(_state(job)) if job.state != "running" else job.state
            if self._said.get(job.name, "waiting") != state:
                log.info(f"{job.name}: {state}")
                self._said[job.name] = state

    def render(self) -> Group:
        shown = self._shown()
        columns = [c for c in COLUMNS if self.console.width >= c.least]
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(column.title, justify=column.justify, overflow="fold")
        for job in shown:
            cells = {"run": job.name, "state": _state(job), **_figures(job)}
            table.add_row(*(cells.get(column.title, "") for column in columns))
        words = ", ".join(self._words())
        return Group(table, Text(words, style="dim"))

    def _shown(self) -> list[Job]:
        """All, or on a terminal as many as its height holds: first those that run, then those
        that failed, then the next to come."""
        room = max(1, self.console.height - 4)
        if not moves(self.console) or len(self.jobs) <= room:
            return self.jobs
        return sorted(self.jobs, key=lambda job: ORDER.index(job.state))[:room]

    def _words(self) -> Iterator[str]:
        done = sum(job.state in ("done", "diverged") for job in self.jobs)
        failed = sum(job.state == "failed" for job in self.jobs)
        yield f"{done} of {len(self.jobs)} done"
        if failed:
            yield f"{failed} failed"
        if (left := study_seconds_left(self.jobs)) is not None:
            yield f"about {clock(left)} left"


def _state(job: Job) -> Text:
    words = job.state
    if job.state == "running":
        words = str(job.progress.get("stage", "starting"))
    if job.error:
        words += f": {job.error}"
    if job.state == "waiting" and job.taken_over:
        words += ": another process runs it"
    return Text(words, style=STYLES[job.state], overflow="fold")


def _figures(job: Job) -> dict[str, ProgressBar | str]:
    if job.state == "running" and job.progress:
        figures = job.progress
        bar = ProgressBar(total=figures["total"], completed=figures["done"], width=20)
        left = figures["seconds_left"]
        found = {"progress": bar, "left": clock(left) if left is not None else ""}
        return found | _measured(figures.get("loss"), figures.get("tokens_per_second"))
    if job.result is None:
        return {}
    found = {"progress": clock(job.seconds)}
    loss = job.result.get("loss", {}).get("mean")
    return found | _measured(loss, job.result.get("tokens_per_second"))


def _measured(loss: float | None, speed: float | None) -> dict[str, ProgressBar | str]:
    return {
        "loss": f"{loss:.3f}" if loss is not None else "",
        "tokens/s": f"{speed:,.0f}" if speed is not None else "",
    }


def study_seconds_left(jobs: list[Job]) -> float | None:
    """From the jobs that train now or are done: the waiting ones take as long as those, shared
    among as many as run at once. None before anything is known."""
    training = [
        job.progress["seconds_left"]
        for job in jobs
        if job.state == "running" and job.progress.get("stage") == "train"
        and job.progress.get("seconds_left") is not None
    ]  # fmt: skip
    finished = [job.seconds for job in jobs if job.state == "done"]
    running = [job for job in jobs if job.state == "running"]
    whole = finished or [
        job.seconds + job.progress["seconds_left"]
        for job in running
        if job.progress.get("seconds_left") is not None and job.progress.get("stage") == "train"
    ]
    if not whole or not running:
        return None
    waiting = sum(job.state == "waiting" for job in jobs)
    each = sum(whole) / len(whole)
    return (sum(training) + waiting * each) / len(running)
