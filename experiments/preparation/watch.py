"""Memory and time of a command and of every process below it, looked at every 50 ms.

Memory is what is anonymous (`RssAnon`): pages of mapped files are the system's to drop. Time by
stage follows the file of progress that the program writes for a grid's table. Linux alone tells
all of this (`/proc`).
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glam.progress import PROGRESS_FILE

INTERVAL = 0.05  # seconds


@dataclass
class Use:
    """What a command took; of a stage, what was taken while it was the last one that was named."""

    wall_s: float = 0.0
    cpu_s: float = 0.0  # of all processes
    largest: int = 0  # [bytes] of the largest process at its most
    together: int = 0  # [bytes] of all at their most


@dataclass
class Watched(Use):
    """The whole command, and its stages by name in the order in which they came."""

    stages: dict[str, Use] = field(default_factory=dict[str, Use])
    output: str = ""

    @property
    def largest_stage(self) -> str:
        return max(self.stages, key=lambda name: self.stages[name].largest, default="")


def watch(command: Sequence[str], folder: Path | None = None) -> Watched:
    """Run a command in `folder`. Raises RuntimeError with the end of what it said where it
    fails."""
    with tempfile.TemporaryDirectory() as name:
        progress = Path(name) / "progress.json"
        with (Path(name) / "output").open("w+") as output:
            process = subprocess.Popen(
                list(command),
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=folder,
                env={**os.environ, PROGRESS_FILE: str(progress)},
            )
            found = _watched(process, progress)
            output.seek(0)
            found.output = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{found.output[-2000:]}")
    return found


def _watched(process: subprocess.Popen[str], progress: Path) -> Watched:
    found, seen = Watched(), dict[int, float]()
    last = time.monotonic()
    while process.poll() is None:
        sizes = _look(process.pid, seen)
        now, cpu = time.monotonic(), sum(seen.values())
        taken = (now - last, cpu - found.cpu_s, max(sizes, default=0), sum(sizes))
        for use in (found, found.stages.setdefault(_stage(progress), Use())):
            _add(use, *taken)
        last = now
        time.sleep(INTERVAL)
    return found


def _add(use: Use, wall: float, cpu: float, largest: int, together: int) -> None:
    use.wall_s += wall
    use.cpu_s += cpu
    use.largest, use.together = max(use.largest, largest), max(use.together, together)


def _look(first: int, seen: dict[int, float]) -> list[int]:
    """Bytes of a process and of each below it; `seen` gets their CPU seconds, and keeps those of
    processes that have ended."""
    sizes, every = list[int](), [first]
    for number in every:  # which grows meanwhile
        at = Path(f"/proc/{number}")
        try:
            for task in (at / "task").iterdir():
                every += map(int, (task / "children").read_text().split())
            sizes.append(_anonymous(at))
            seen[number] = _cpu_seconds(at)
        except OSError:
            continue  # it has just ended
    return sizes


def _anonymous(process: Path) -> int:
    for line in (process / "status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0  # it has ended, and nobody has asked for its exit status yet


def _cpu_seconds(process: Path) -> float:
    """Of its own, in the program and in the system."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _stage(progress: Path) -> str:
    """The last one that was named."""
    try:
        said: Mapping[str, object] = json.loads(progress.read_text())
    except (OSError, ValueError):
        return "start"
    return str(said["stage"])
