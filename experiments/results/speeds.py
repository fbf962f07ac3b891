"""Seconds per token of the studies' runs: measured here, in committed tables, or by the plan."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from experiments.results.grids import Row
from experiments.results.machines import Machine, machine_in
from experiments.results.state import State, has_tasks, read
from glam.config import RunConfig
from glam.machine.resources import Resources
from glam.planning.throughput import calibrated, tokens_per_hour, workload_key
from glam.studies.study import TrainingCell

# A run's start, checkpoints, held-out losses and report; and the embedded tasks. Used where no run
# of this machine says it (seconds.json).
AROUND, TASKS = 15.0, 15.0  # [s]
# Keys that a step's time does not depend on, and those that an older table may have otherwise.
NOT_OF_A_STEP = (
    *("seed", "data", "optimizer.learning_rate"),
    *("training.tokens", "training.seconds", "training.tokens_per_parameter"),
)

# Where a number is from, the first that there is.
HERE, CALIBRATED = "runs here", "calibrated here"
TABLES_HERE, TABLES = "tables of such a machine", "older tables"
MODELLED = "the plan’s model"
ORDER = (HERE, CALIBRATED, TABLES_HERE, TABLES, MODELLED)


class Estimate(NamedTuple):
    seconds: float  # of one core
    source: str


@dataclass(kw_only=True)
class Speeds:
    """Seconds per token by workload and source; seconds around a run by whether it has tasks."""

    training: dict[tuple[str, str], list[float]] = field(default_factory=lambda: {})
    around: dict[bool, list[float]] = field(default_factory=lambda: {})
    # Of the runs here, one of each workload.
    examples: dict[str, tuple[RunConfig, Resources]] = field(default_factory=lambda: {})

    @classmethod
    def of(cls, states: Sequence[State], here: Machine) -> "Speeds":
        found = cls()
        for state in states:
            for cell in state.trained:
                found._take_run(cell)
            if state.study.table_file.exists() and not state.study.is_stamped:
                found._take_table(state, here)
        return found

    def _take_run(self, cell: TrainingCell) -> None:
        summary = cell.run.summary() or {}
        if not summary.get("train_seconds") or not summary.get("tokens"):
            return
        workload = workload_key(cell.config, cell.resources)
        self.examples.setdefault(workload, (cell.config, cell.resources))
        pace = summary["train_seconds"] / summary["tokens"]
        self.training.setdefault((workload, HERE), []).append(pace)
        if spent := cell.run.read("seconds.json", dict):
            phases = [one["wall"] for name, one in spent.items() if name != "training"]
            self.around.setdefault(has_tasks(cell.config), []).append(sum(phases))

    def _take_table(self, state: State, here: Machine) -> None:
        rows = read(state.study.table_file)
        for cell in {_step(cell): cell for cell in state.cells}.values():
            workload = workload_key(cell.config, cell.resources)
            for row in rows:
                if not _is_of(row, cell):
                    continue
                source = TABLES_HERE if machine_in(row) == here else TABLES
                pace = float(row["train_seconds"]) / float(row["tokens"])
                self.training.setdefault((workload, source), []).append(pace)

    def estimate(self, config: RunConfig, resources: Resources) -> Estimate:
        """Of one run, all of it."""
        around = self.around.get(has_tasks(config))
        beside = float(np.median(around)) if around else AROUND + TASKS * has_tasks(config)
        if (seconds := config.training.seconds) is not None:
            return Estimate(seconds + beside, "its budget")
        pace, source = self._pace(config, resources)
        return Estimate(config.training.tokens * pace + beside, source)

    def _pace(self, config: RunConfig, resources: Resources) -> tuple[float, str]:
        for source in ORDER:
            if (pace := self._measured(config, resources, source)) is not None:
                return pace * self.factors.get(source, 1.0), source
        raise AssertionError("the plan knows every run's throughput")

    def _measured(self, config: RunConfig, resources: Resources, source: str) -> float | None:
        """Seconds per token, as the source has them."""
        if source == CALIBRATED:
            found = calibrated(config, resources)
            return None if found is None else 1 / found.tokens_per_second
        if source == MODELLED:
            return 1 / modelled(config, resources)
        paces = self.training.get((workload_key(config, resources), source))
        return float(np.median(paces)) if paces else None

    @cached_property
    def factors(self) -> dict[str, float]:
        """Of the sources that are not this machine's: what runs here take over what they say, the
        median over the workloads that both have."""
        found: dict[str, float] = {}
        for source in (TABLES, MODELLED):
            pairs = [
                (self._measured(*one, HERE), self._measured(*one, source))
                for one in self.examples.values()
            ]
            if ratios := [here / there for here, there in pairs if here and there]:
                found[source] = float(np.median(ratios))
        return found


def modelled(config: RunConfig, resources: Resources) -> float:
    """Tokens per second by the plan's model alone."""
    return tokens_per_hour(config, resources) / 3600


def _step(cell: TrainingCell) -> tuple[str, ...]:
    return tuple(str(v) for k, v in cell.values.items() if k not in NOT_OF_A_STEP)


def _is_of(row: Row, cell: TrainingCell) -> bool:
    """Whether the row's run had the cell's steps, as far as the table tells."""
    keys = [key for key in cell.values if key not in NOT_OF_A_STEP]
    alike = all(row.get(key) == str(cell.values[key]) for key in keys)
    return alike and bool(row.get("train_seconds")) and bool(row.get("tokens"))
