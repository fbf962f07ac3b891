"""The live table of a grid: state, loss, tokens per second and time left of every job."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from glam.studies.pool import Job

STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "done": "green",
    "diverged": "yellow",
    "failed": "bold red",
    "stopped": "yellow",
}


class LiveTable:
    """Redrawn in place on a terminal; elsewhere one line at every change of state."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.console = Console(stderr=True)
        self._live = Live(console=self.console, auto_refresh=False, transient=False)
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()
        else:
            self.console.print(self.render())

    def update(self) -> None:
        if self.console.is_terminal:
            self._live.update(self.render(), refresh=True)
            return
        for job in self.jobs:
            state = str(_state(job)) if job.state != "running" else job.state
            if self._said.get(job.name, "waiting") != state:
                print(f"{job.name}: {state}", file=sys.stderr)
                self._said[job.name] = state

    def render(self) -> Group:
        table = Table(box=None, padding=(0, 2), header_style="bold")
        for title in ("run", "state", "progress"):
            table.add_column(title)
        for title in ("loss", "tokens/s", "left"):
            table.add_column(title, justify="right")
        for job in self.jobs:
            table.add_row(job.name, _state(job), *_figures(job))
        done = sum(job.state in ("done", "diverged") for job in self.jobs)
        failed = sum(job.state == "failed" for job in self.jobs)
        words = f"{done} of {len(self.jobs)} done" + (f", {failed} failed" if failed else "")
        left = study_seconds_left(self.jobs)
        if left is not None:
            words += f", about {clock(left)} left"
        return Group(table, Text(words, style="dim"))


def _state(job: Job) -> Text:
    words = job.state
    if job.state == "running":
        words = str(job.progress.get("stage", "starting"))
    if job.error:
        words += f": {job.error}"
    if job.state == "waiting" and job.elsewhere:
        words += ": another process runs it"
    return Text(words, style=STYLES[job.state], overflow="fold")


def _figures(job: Job) -> tuple[ProgressBar | str, str, str, str]:
    if job.state == "running" and job.progress:
        figures = job.progress
        bar = ProgressBar(total=figures["total"], completed=figures["done"], width=20)
        left = figures["seconds_left"]
        return (
            bar,
            f"{figures['loss']:.3f}" if "loss" in figures else "",
            f"{figures['tokens_per_second']:,.0f}" if "tokens_per_second" in figures else "",
            clock(left) if left is not None else "",
        )
    summary = job.run.summary() if job.state in ("done", "diverged") else None
    if summary is None:
        return "", "", "", ""
    loss, speed = summary.get("loss", {}).get("mean"), summary.get("tokens_per_second")
    shown = f"{loss:.3f}" if loss is not None else ""
    return clock(job.seconds), shown, f"{speed:,.0f}" if speed is not None else "", ""


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


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
