"""Trains what is missing, study by study, and makes the files of each."""

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.results import grids
from experiments.results.cost import costs, table
from experiments.results.machines import machine_in, words
from experiments.results.stamp import begun_here, stamp
from experiments.results.state import State, read, state_of, told
from experiments.results.study import Script, Study
from experiments.tables import refuse, write
from glam.cli.signals import stoppable
from glam.config import ROOT, StudyConfig
from glam.errors import stopped_by
from glam.machine.parent_watch import PARENT_PIPE
from glam.units import duration

GRID = "run.py"
PAGES = "experiments.pages"  # renders every page from the tables


class Results:
    """`every`: the studies, in the order of need; `named`: those that are asked for. `again`: what
    the committed tables have does not count."""

    def __init__(
        self, every: Sequence[Study], named: Sequence[str], runs_dir: str, *, again: bool = False
    ) -> None:
        by_name = {study.name: study for study in every}
        if unknown := [name for name in named if name not in by_name]:
            refuse(f"there is no study {unknown[0]!r}; there are {', '.join(by_name)}")
        self.studies = [study for study in every if not named or study.name in named]
        self.runs_dir, self.again = runs_dir, again
        self.by_name = by_name

    def _check_needs(self) -> None:
        """Raises SystemExit, with one line and status 2, where a table that a study reads is
        neither there nor to be made before it."""
        for study in self.studies:
            others = [n for n in study.needs if self.by_name[n] not in self.studies]
            states = [state_of(self.by_name[name], self.runs_dir) for name in others]
            if lacking := {one.study.name: one.why for one in states if not one.is_done}:
                name, why = next(iter(lacking.items()))
                refuse(
                    f"{study.name} needs the table of {name}, which is not there: {why}; "
                    f"python -m experiments.results {' '.join(lacking)} {study.name}"
                )

    def states(self, studies: Sequence[Study]) -> list[State]:
        return [state_of(study, self.runs_dir, again=self.again) for study in studies]

    def cost(self) -> str:
        return table(costs(self.states(self.studies)))

    def run(self) -> None:
        """Raises SystemExit for what cannot be, and with the status of a line that failed."""
        self._check_needs()
        left = costs(self.states(self.studies))
        print(table(left), flush=True)
        for number, study in enumerate(self.studies, 1):
            rest = duration(3600 * sum(cost.hours for cost in left))
            print(f"\nstudy {number} of {len(self.studies)}: {study.name}, {rest} left", flush=True)
            state = left.pop(0).state
            if not state.is_done:
                print(told(state), flush=True)
                self.train(state)
            self.make(state, study.from_tables)
            if not state.is_done:
                render_pages()
                left = costs(self.states(self.studies[number:]))  # by what was measured meanwhile
        render_pages()

    def train(self, state: State) -> None:
        """What is trained is skipped and what was cut off goes on: by the runs' own folders."""
        study = state.study
        for line in study.before:
            call(["-m", *shlex.split(line)])
        if study.script is not None:
            self._train_by(study.script, state)
        else:
            call([GRID, "-m", *grids.words_of(study.grid, self.runs_dir)])
        if not study.is_stamped:
            keep(study, self.runs_dir)
        self.make(state, study.from_runs)
        if study.is_stamped:
            stamp(study.folder, state.cells, done=True)

    def _train_by(self, script: Script, state: State) -> None:
        if not begun_here(state.study.folder, state.cells):
            for name in script.fresh:
                (state.study.folder / name).unlink(missing_ok=True)
        stamp(state.study.folder, state.cells, done=False)
        for line in script.lines:
            call(["-m", *shlex.split(line)])

    def make(self, state: State, lines: Sequence[str]) -> None:
        for line in lines:
            call(["-m", *shlex.split(line.format(**self._places(state)))])

    def _places(self, state: State) -> dict[str, str]:
        """What stands for the names in the lines of a study."""
        study, cells = state.study, state.cells
        asked = cells[0].config.study if cells else StudyConfig()
        pair = [f"compares={asked.compares}", f"baseline={asked.baseline}"]
        return {
            "table": shlex.quote(shown(study.table_file)),
            "tables": shlex.join(shown(self.by_name[need].table_file) for need in study.needs),
            "folder": shlex.quote(shown(study.folder)),
            "runs_dir": shlex.quote(self.runs_dir),
            "runs": shlex.join(shown(cell.run.path) for cell in cells),
            "compares": shlex.join(pair) if asked.compares else "",
        }


def keep(study: Study, runs_dir: str) -> None:
    """The grid's rows of study.csv, and no other that the study's folder lists, as its table.
    Raises SystemExit where they are not all there, or not of one machine."""
    grid = grids.composed(grids.words_of(study.grid, runs_dir))
    file = grid.folder.path / "study.csv"
    rows = read(file)
    found = [row for cell in grid.cells if (row := grids.row_of(cell, rows)) is not None]
    if len(found) < len(grid.cells):
        refuse(f"{file} is of another grid: it has {len(found)} of {len(grid.cells)} runs")
    if len(machines := dict.fromkeys(machine_in(row) for row in found)) > 1:
        where = ", ".join(map(words, machines))
        refuse(
            f"{study.name}: its runs in {runs_dir} are of several machines ({where}), and pairs "
            f"share one; name another folder with --runs=..."
        )
    # Another grid's rows in study.csv bring columns of their own.
    columns = [name for name in found[0] if any(row[name] for row in found)]
    study.folder.mkdir(parents=True, exist_ok=True)
    write(study.table_file, columns, [{name: row[name] for name in columns} for row in found])


def shown(path: Path) -> str:
    """As a user in the repository would type it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def render_pages() -> None:
    if importlib.util.find_spec(PAGES) is not None:
        call(["-m", PAGES])


def call(arguments: Sequence[str]) -> None:
    """A line of Python, as typed in the repository. Raises SystemExit with its status where it
    fails. It gets a signal that asks this process to stop, and the time to save itself; a grid also
    stops with this process where that is killed without warning."""
    print(shlex.join(("python", *arguments)), flush=True)
    watched = {**os.environ, PARENT_PIPE: "1"} if arguments[0] == GRID else None
    line = [sys.executable, *arguments]
    with (
        stoppable(),
        # A session of its own: Ctrl-C reaches us, and we hand it on, once.
        subprocess.Popen(
            line, cwd=ROOT, env=watched, stdin=subprocess.PIPE, start_new_session=True
        ) as process,
    ):
        try:
            status = process.wait()
        except KeyboardInterrupt as interrupt:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            print("stopped; the same command goes on", file=sys.stderr)
            raise SystemExit(128 + stopped_by(interrupt)) from None
    if status:
        said = shlex.join(("python", *arguments[:4]))
        print(f"{said} … ended with status {status}; the same command goes on", file=sys.stderr)
        raise SystemExit(status if status > 0 else 128 - status)
