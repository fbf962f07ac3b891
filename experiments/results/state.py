"""What there is of a study: rows of its committed table, and runs in this machine's folder."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.results import grids
from experiments.results.grids import Row
from experiments.results.machines import machine_in, words
from experiments.results.stamp import why_not
from experiments.results.study import Study
from experiments.tables import ENDED, refuse
from glam.config import RunConfig
from glam.config._evaluation import HELD_OUT
from glam.studies.study import TrainingCell

AGAIN = "to be trained again"


@dataclass(kw_only=True)
class State:
    """`why`: why the committed table is not the study's; empty where it is."""

    study: Study
    why: str = ""
    cells: list[TrainingCell] = field(default_factory=lambda: [])
    rows: int = 0  # of the table, that are of the grid

    @property
    def is_done(self) -> bool:
        return not self.why

    @property
    def trained(self) -> list[TrainingCell]:
        """Cells whose runs lie here, finished."""
        return [cell for cell in self.cells if grids.is_known(cell) and cell.is_done]

    @property
    def left(self) -> list[TrainingCell]:
        """Cells to train before the study is done."""
        here = {id(cell) for cell in self.trained}
        return [] if self.is_done else [cell for cell in self.cells if id(cell) not in here]


def state_of(study: Study, runs_dir: str, *, again: bool = False) -> State:
    """`again`: the committed table does not count. Raises UserError for a grid that is none, and
    SystemExit for a table that cannot be read."""
    cells = cells_of(study, runs_dir)
    if not cells:
        return State(study=study)
    if study.is_stamped:
        why = why_not(study.folder, cells) or _lacking(study)
        return State(
            study=study, cells=cells, why=why or AGAIN * again, rows=0 if why else len(cells)
        )
    rows = read(study.table_file) if study.table_file.exists() else []
    found = [row for cell in cells if (row := grids.row_of(cell, rows)) is not None]
    why = _why(study, cells, rows, found)
    return State(study=study, cells=cells, rows=len(found), why=why or AGAIN * again)


def cells_of(study: Study, runs_dir: str) -> list[TrainingCell]:
    """Of its grid, or those like its module's; none of a study that reads the tables of others."""
    every = [study.grid] if study.grid else study.script.like() if study.script else []
    return [cell for grid in every for cell in grids.composed(grids.words_of(grid, runs_dir)).cells]


def read(file: Path) -> list[Row]:
    """Rows of ended runs. Raises SystemExit, with one line and status 2, for no table of runs."""
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, ValueError, csv.Error) as error:
        return refuse(
            f"{file} cannot be read ({error}); put back the committed table, or remove it"
        )
    if any(None in row or None in row.values() for row in rows):
        return refuse(
            f"{file} has rows that are not as long as its head; put back the committed table"
        )
    if rows and "id" not in rows[0]:
        return []  # written before its rows had ids
    return [row for row in rows if row.get("status", "done") in ENDED]


def _why(
    study: Study, cells: Sequence[TrainingCell], rows: Sequence[Row], found: Sequence[Row]
) -> str:
    if not rows:
        return "it has no table with ids of runs"
    if not found:
        return f"{study.table} is of another grid: it has none of these runs"
    machines = Counter(machine_in(row) for row in found)
    where = ", ".join(words(one) for one in machines)
    if len(found) < len(cells):
        return f"{study.table} has {len(found)} of {len(cells)} runs, from {where}"
    if len(machines) > 1:
        return f"{study.table} is of several machines: {where}"
    if None in machines:
        return f"{study.table} does not say which machine it is of"
    if has_tasks(cells[0].config) and not any(name.startswith("tasks/") for name in found[0]):
        return f"{study.table} has no scores of tasks, which its runs are judged on today"
    return _lacking(study)


def has_tasks(config: RunConfig) -> bool:
    """Whether a run is judged on tasks beside held-out loss."""
    return config.evaluation.name != HELD_OUT


def _lacking(study: Study) -> str:
    """What of the study's files is not there."""
    wanted = (study.table, *study.makes)
    lacks = [name for name in wanted if not (study.folder / name).exists()]
    return f"{', '.join(lacks)} {'is' if len(lacks) == 1 else 'are'} missing" if lacks else ""


def told(state: State) -> str:
    """Why a study is trained, in a line."""
    if not state.rows:
        return f"{state.study.name}: {state.why}"
    whole = "the study is trained whole here, so that no pair has two machines"
    return f"{state.study.name}: {state.why}; {whole}"
