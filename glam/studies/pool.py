"""Jobs in processes of their own: as many at once as cores and memory allow."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import psutil

from glam.errors import Stopped, stopped_by
from glam.machine.parent_watch import PARENT_PIPE
from glam.machine.resources import memory_bytes, num_cores
from glam.progress import PROGRESS_FILE
from glam.runs.contents import Failure, Progress
from glam.runs.folder import RunFolder, write_atomically
from glam.units import counted

State = Literal["waiting", "running", "done", "diverged", "failed", "stopped"]
PATIENCE = 8.0  # seconds a job has to save a checkpoint when it is told to stop


def cell_file(run: RunFolder) -> Path:
    """Where a job finds its configuration. Beside the run: `rerun=true` moves its folder aside."""
    return run.path.parent / ".cells" / f"{run.path.name}.json"


@dataclass(kw_only=True)
class Job:
    """A command to run, and how it fares."""

    name: str
    command: list[str]
    # What the process is to run, {config, overrides}: written to its file when it starts.
    cell: dict[str, Any] | None = None
    run: RunFolder
    threads: int
    memory_bytes: int
    device_bytes: int | None = None  # of the device that holds it, beside other jobs
    max_jobs: int | None = None
    state: State = "waiting"
    error: str | None = None
    result: dict[str, Any] | None = None  # its summary, once it is there
    taken_over: bool = False  # another process has had the run since the grid began
    began: float = 0.0
    seconds: float = 0.0
    progress: dict[str, Any] = field(default_factory=lambda: {})
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def progress_file(self) -> Path:
        return self.run.path / "progress.json"

    @property
    def log_file(self) -> Path:
        return self.run.path / "output.log"

    def start(self) -> None:
        self.run.path.mkdir(parents=True, exist_ok=True)
        self.progress_file.unlink(missing_ok=True)
        if self.cell is not None:
            file = cell_file(self.run)
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, json.dumps(self.cell))
        environment = {**os.environ, PROGRESS_FILE: str(self.progress_file), PARENT_PIPE: "1"}
        with self.log_file.open("ab") as log:
            # A session of its own: Ctrl-C reaches us, and we tell the jobs. The pipe is the
            # parent watch: it breaks when we die, however we die.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self.state, self.began = "running", time.monotonic()

    def poll(self) -> None:
        """Read the figures, and the fate when there is one."""
        assert self.process is not None
        self.seconds = time.monotonic() - self.began
        self.read_progress()
        if (status := self.process.poll()) is not None:
            self._settle(status)

    def read_progress(self) -> None:
        if (progress := self.run.read("progress.json", Progress)) is not None:
            self.progress = cast(dict[str, Any], progress)

    def _settle(self, status: int) -> None:
        assert self.process is not None
        self._let_go()
        if self.take_result():
            return
        if status > 0 and self.run.is_held:  # someone else's job was a moment faster
            self.state, self.taken_over = "waiting", True
            return
        self.state = "failed"
        self.error = self._reason(status)

    def take_result(self) -> bool:
        """Whether the run is finished, whoever finished it."""
        self.result = self.run.summary()
        if self.result is not None:
            self.state = "diverged" if self.result["status"] == "diverged" else "done"
        return self.result is not None

    def _let_go(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.progress_file.unlink(missing_ok=True)
        cell_file(self.run).unlink(missing_ok=True)  # written anew when the job is started again

    def stop(self, patience: float) -> None:
        """Wait for a job that was told to stop; end it when it takes longer."""
        assert self.process is not None
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._let_go()
        if not self.take_result():
            self.state = "stopped"

    def _reason(self, status: int) -> str:
        """Why the job ended: its own words, or what the system did to it."""
        if status < 0:
            error = f"killed by {signal.Signals(-status).name}"
        else:
            if (failure := self.run.read("failure.json", Failure)) is not None:
                return failure["error"]
            error = self._last_words() or f"exit status {status}"
        try:
            self.run.write_failure(error)
        except OSError as closed:  # a full disk swallows a job's last words too
            return f"{error}; {self.run.path.parent}: {closed.strerror}"
        return error

    def _last_words(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def run_jobs(jobs: list[Job], watch: Callable[[], None]) -> None:
    """Run all to their end, however many fail. After Ctrl-C, or another signal that asks for it,
    stop them and raise it again."""
    try:
        while any(job.state in ("waiting", "running") for job in jobs):
            for job in jobs:
                if job.state == "running":
                    job.poll()
            room = Room.beside([job for job in jobs if job.state == "running"])
            for job in jobs:
                if job.state == "waiting" and room.has(job):
                    _start(job)
                    room.take(job)
            watch()
            time.sleep(0.2)
    except KeyboardInterrupt as interrupt:
        stop_jobs([job for job in jobs if job.state == "running"], PATIENCE)
        watch()
        left = sum(job.state in ("waiting", "stopped") for job in jobs)
        raise Stopped(
            f"stopped with {left} of {counted(len(jobs), 'job')} unfinished; "
            f"the same command resumes",
            stopped_by(interrupt),
        ) from None


@dataclass(kw_only=True)
class Room:
    """What the machine has left beside the jobs that run."""

    running: int = 0
    promised: int = 0  # bytes
    threads: int
    memory_bytes: int

    @classmethod
    def beside(cls, running: list[Job]) -> "Room":
        room = cls(threads=num_cores(), memory_bytes=_free_memory(running))
        for job in running:
            room.take(job)
        return room

    def has(self, job: Job) -> bool:
        if not self.running:
            return True  # one at a time always goes: the preflight has weighed it
        if job.max_jobs is not None and self.running >= job.max_jobs:
            return False
        there_is = min(self.memory_bytes, job.device_bytes or self.memory_bytes)
        return job.threads <= self.threads and self.promised + job.memory_bytes <= 0.9 * there_is

    def take(self, job: Job) -> None:
        """A job may not have grown to its full size yet, so its estimate is set aside in full."""
        if job.state == "running":
            self.running += 1
            self.threads -= job.threads
            self.promised += job.memory_bytes


def _start(job: Job) -> None:
    """Or let it wait for whoever has the run: what they finish is this grid's result too."""
    if job.run.is_held:
        job.taken_over = True
        return
    if job.taken_over and job.take_result():
        return
    try:
        job.start()
    except OSError as error:
        job.state, job.error = "failed", f"could not start: {error}"


def _free_memory(running: list[Job]) -> int:
    """What there would be for these and others if none of these ran."""
    resident = 0
    for job in running:
        if job.process is not None:
            try:
                resident += psutil.Process(job.process.pid).memory_info().rss
            except psutil.Error:
                continue  # it has just ended
    return min(memory_bytes(), psutil.virtual_memory().available + resident)


def stop_jobs(running: list[Job], patience: float) -> None:
    """Ask each to save and leave, within `patience` seconds; end those that do not."""
    for job in running:
        assert job.process is not None
        job.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + patience
    for job in running:
        job.stop(max(0.1, deadline - time.monotonic()))
