"""Kills training at random moments and compares what is left with an undisturbed run:
`python -m experiments.reliability.chaos --kills 50 --seconds 1800` (`make chaos`).

A *burst* starts one line, kills it one, two or five times in a row, each time in a phase that is
seen from its folders, and lets it end. Weights, optimizer, counters, rows and summary must have the
SHA of the same line that nobody disturbed. Each burst is a row of `chaos.csv`; the status is 1
where one is not exact.
"""

import argparse
import contextlib
import csv
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import psutil

from experiments.reliability.left_behind import digests
from experiments.reliability.setups import ROOT, SetUp, set_ups, write_text
from glam.progress import Bar, bar

HERE = Path(__file__).parent
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
BURSTS = (1, 2, 5)
GRACE = 60.0  # [s] that a process has to save a checkpoint and leave
LONGEST = 600.0  # [s] of a line that nobody disturbs
# What is there while a phase lasts, below the folder of the runs (or of the cache).
PHASES = {
    "start": (),
    "tokenizer": ("cache/tokenizer-*.part-*",),
    "cache": ("cache/documents-*.part-*", "cache/tokens-*.part-*", "cache/scores-*.part-*"),
    "training": ("runs/*/metrics.csv",),
    "checkpoint": ("runs/*/checkpoints/.step-*",),
    "evaluation": ("runs/*/checkpoints/step-{last}/manifest.json",),
    "summary": ("runs/*/generated.json",),
}
FRESH = ("tokenizer", "cache")  # phases that a full cache does not have


@dataclass(kw_only=True)
class Row:
    """One burst."""

    set_up: str
    signals: str = ""  # of each kill, and the phase that it met
    kills: int = 0
    seconds: float = 0.0  # of the whole burst
    exact: str = "yes"
    differs: str = ""


@dataclass(kw_only=True)
class Place:
    """A folder of its own for a line's runs, with the cache of others or an empty one."""

    folder: Path
    text: Path
    last_step: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def line(self, set_up: SetUp) -> list[str]:
        return set_up.line(self.text, self.runs, self.cache)

    def is_in(self, phase: str, since: float) -> bool:
        """Whether there is now what the phase leaves, written after the line was started."""
        for pattern in PHASES[phase]:
            for path in self.folder.glob(pattern.format(last=f"{self.last_step:08d}")):
                try:
                    if path.stat().st_mtime >= since:
                        return True
                except OSError:
                    continue
        return False

    def is_done(self) -> bool:
        runs = [file.parent for file in self.runs.glob("*/config.yaml")]
        return bool(runs) and all((run / "summary.json").is_file() for run in runs)


def family_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """All that a line has started. Asked before it is killed: orphans are no one's children."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


def end(process: "subprocess.Popen[bytes]", family: list[psutil.Process], patience: float) -> bool:
    """Wait for a line and its family; what does not leave in time is killed. Returns whether they
    left by themselves."""
    until = time.monotonic() + patience
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        family = [*family, *family_of(process)]
    _, alive = psutil.wait_procs(family, max(1.0, until - time.monotonic()))
    for one in alive:
        one.kill()
    return not alive and time.monotonic() < until


class Chaos:
    """Bursts on one set-up after another, each compared with its undisturbed run."""

    def __init__(self, folder: Path, seed: int, running: Bar) -> None:
        self.folder, self.running = folder, running
        self.chance = random.Random(seed)
        self.text = folder / "text"
        write_text(self.text)
        self.calm: dict[str, tuple[Place, dict[str, str], float]] = {}
        self.rows: list[Row] = []
        self._numbers, self._lengths = itertools.count(), itertools.cycle(BURSTS)
        self._phases: Iterator[str] = itertools.cycle(
            ("checkpoint", "training", "evaluation", "tokenizer", "summary", "cache", "start")
        )

    @property
    def kills(self) -> int:
        return sum(row.kills for row in self.rows)

    def undisturbed(self, set_up: SetUp) -> tuple[Place, dict[str, str], float]:
        if set_up.name not in self.calm:
            place = Place(folder=self.folder / f"calm-{len(self.calm)}", text=self.text)
            began = time.monotonic()
            self.finish(place, set_up)
            steps = [int(path.name[5:]) for path in place.runs.glob("*/checkpoints/step-*")]
            place.last_step = max(steps)
            self.calm[set_up.name] = place, digests(place.runs), time.monotonic() - began
        return self.calm[set_up.name]

    def burst(self, set_up: SetUp, left: int) -> None:
        calm, expected, usual = self.undisturbed(set_up)
        length = min(next(self._lengths), left)
        phases = [next(self._phases) for _ in range(length)]
        place = Place(folder=self.folder / f"wild-{next(self._numbers)}", text=self.text)
        place.last_step = calm.last_step
        row, began = Row(set_up=set_up.name), time.monotonic()
        if not set(phases) & set(FRESH):
            shutil.copytree(calm.cache, place.cache)
        try:
            for phase in sorted(phases, key=[*PHASES].index):
                self.kill_once(place, set_up, phase, usual, row)
            self.finish(place, set_up)
            self.compare(expected, digests(place.runs), row)
        except BrokenError as broken:
            row.exact, row.differs = "no", str(broken)
        row.seconds = round(time.monotonic() - began, 1)
        if row.kills or row.exact != "yes":  # else it ended before it could be killed
            self.rows.append(row)
        if row.exact == "yes":
            shutil.rmtree(place.folder)

    def kill_once(self, place: Place, set_up: SetUp, phase: str, usual: float, row: Row) -> None:
        """Start the line, wait for the phase, and send one signal a random moment later."""
        chosen = self.chance.choice(SIGNALS)
        log = place.folder / f"said-{row.kills}.txt"
        place.folder.mkdir(exist_ok=True)
        since = time.time()
        with log.open("wb") as said:
            process = subprocess.Popen(
                place.line(set_up), stdout=said, stderr=said, cwd=ROOT, start_new_session=True
            )
            self.await_phase(place, process, phase, usual, since)
            if process.poll() is not None:
                if process.returncode:
                    raise BrokenError(
                        f"ended by itself with {process.returncode}: {_last_line(log)}"
                    )
                return
            family = family_of(process)
            process.send_signal(chosen)
            left_by_itself = end(process, family, GRACE)
        row.kills += 1
        row.signals += f"{', ' if row.signals else ''}{chosen.name} in {phase}"
        self.running.advance()
        if not left_by_itself and chosen != signal.SIGKILL:
            raise BrokenError(f"{chosen.name} in {phase}: did not leave within {GRACE:.0f} s")
        if not set_up.is_grid and chosen != signal.SIGKILL and phase in ("training", "checkpoint"):
            _check_saved(place, chosen, log)

    def await_phase(
        self,
        place: Place,
        process: "subprocess.Popen[bytes]",
        phase: str,
        usual: float,
        since: float,
    ) -> None:
        """Until a random moment of the phase, or the end of the process."""
        if phase == "start":
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.chance.uniform(0, usual))
            return
        until = time.monotonic() + LONGEST
        while process.poll() is None and time.monotonic() < until:
            if place.is_in(phase, since):
                break
            time.sleep(0.002)
        if phase in ("training", "tokenizer"):  # the others are over in milliseconds
            time.sleep(self.chance.uniform(0, 0.3))

    def finish(self, place: Place, set_up: SetUp) -> None:
        """Let the line end; a second time where a job of a grid was lost with the first."""
        place.folder.mkdir(exist_ok=True)
        log = place.folder / "said-last.txt"
        status = 0
        for _ in range(2):
            with log.open("wb") as said:
                process = subprocess.Popen(
                    place.line(set_up), stdout=said, stderr=said, cwd=ROOT, start_new_session=True
                )
                end(process, [], LONGEST)
            if (status := process.returncode) == 0:
                return
        raise BrokenError(f"the same line ends with {status}: {_last_line(log)}")

    def compare(self, expected: dict[str, str], found: dict[str, str], row: Row) -> None:
        names = sorted(expected.keys() | found.keys())
        differing = [name for name in names if expected.get(name) != found.get(name)]
        if differing:
            row.exact, row.differs = "no", "; ".join(differing)


class BrokenError(Exception):
    """A burst that did not get as far as a comparison."""


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "(nothing said)"


def _check_saved(place: Place, chosen: signal.Signals, log: Path) -> None:
    """A run that was asked to stop has saved the step at which it stopped."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if place.is_done() or "the same command resumes from step" in text:
        return
    statuses = [
        json.loads(file.read_text())["status"]
        for file in place.runs.glob("*/checkpoints/step-*/manifest.json")
    ]
    if "training" in statuses and "done" not in statuses:
        raise BrokenError(f"{chosen.name} in training: no checkpoint was saved; {_last_line(log)}")


def write_table(rows: Sequence[Row], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, [one.name for one in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


BEGIN, END = "<!-- chaos.csv by set-up -->\n", "<!-- end -->\n"


def write_page(rows: Sequence[Row], page: Path) -> None:
    """Put the table by set-up between its marks on the page."""
    names = [one.name for one in SIGNALS]
    head = f"| set-up | bursts | {' | '.join(names)} | exact |"
    lines = [head, "| --- " * (len(names) + 3) + "|"]
    for set_up in dict.fromkeys(row.set_up for row in rows):
        mine = [row for row in rows if row.set_up == set_up]
        sent = [sum(row.signals.count(name) for row in mine) for name in names]
        exact = sum(row.exact == "yes" for row in mine)
        cells = [set_up, len(mine), *sent, f"{exact} of {len(mine)}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    text = "".join(f"{line}\n" for line in lines)
    page.write_text(before + BEGIN + text + END + rest.split(END)[1], encoding="utf-8")


def parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.reliability.chaos")
    parser.add_argument("--kills", type=int, default=50, help="signals that are sent, at least one")
    parser.add_argument("--seconds", type=float, default=3600.0, help="after which no burst begins")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the signals")
    parser.add_argument("--only", default="", help="set-ups whose name holds this")
    parser.add_argument(
        "--xla", type=Path, default=ROOT / ".venv-xla/bin/python", help="its python"
    )
    parser.add_argument("--table", type=Path, default=HERE / "chaos.csv", help="the file it writes")
    return parser.parse_args(words)


def signals_as_at_a_terminal() -> None:
    """For the lines that are started: a job in the background would have SIGINT ignored, and one
    under nohup SIGHUP."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def main(words: Sequence[str]) -> int:
    signals_as_at_a_terminal()
    asked = parsed(words)
    chosen = [one for one in set_ups(asked.xla) if asked.only in one.name]
    if not chosen:
        raise SystemExit(
            f"--only {asked.only}: no such set-up; {[s.name for s in set_ups(asked.xla)]}"
        )
    folder, began = Path(tempfile.mkdtemp(prefix="glam-chaos-")), time.monotonic()
    with bar("chaos", asked.kills, "kills") as running:
        chaos = Chaos(folder, asked.seed, running)
        for set_up in itertools.cycle(chosen):
            if chaos.kills >= asked.kills or time.monotonic() - began > asked.seconds:
                break
            done = len(chaos.rows)
            chaos.burst(set_up, asked.kills - chaos.kills)
            if len(chaos.rows) == done:
                continue
            row = chaos.rows[-1]
            verdict = "exact" if row.exact == "yes" else f"NOT EXACT ({row.differs})"
            print(f"{row.set_up}: {row.signals}: {verdict}", flush=True)
            write_table(chaos.rows, asked.table)
            if asked.table.parent == HERE:
                write_page(chaos.rows, HERE / "README.md")
    bad = [row for row in chaos.rows if row.exact != "yes"]
    print(f"{chaos.kills} kills in {len(chaos.rows)} bursts; {len(bad)} not exact; {asked.table}")
    if bad:
        print(f"what they left is in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
