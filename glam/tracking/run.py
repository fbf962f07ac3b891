"""A run on W&B: rows, heat maps, the final figures that its list is sorted by, and its report and
generated text as an artifact."""

import dataclasses
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from glam.config import RunConfig
from glam.machine.processes import rank
from glam.machine.resources import Resources
from glam.runs.folder import RunFolder
from glam.runs.machine import machine_of
from glam.runs.naming import run_name
from glam.runs.record import Record
from glam.tracking.session import Entry, Guard, is_wanted, start
from glam.tracking.tasks import task_figures, task_table
from glam.units import counted

if TYPE_CHECKING:
    import wandb
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


# Takes a run folder, gives figures by title.
HeatMaps = Callable[[Path], Mapping[str, "Figure"]]


class Tracker:
    """Tracks nothing: metrics.csv is written without it."""

    def log(self, row: Mapping[str, float], rollbacks: int = 0) -> None:
        """Take a row of metrics.csv, of a run that has gone back so many times before it."""

    def go_back(self, tokens: int, rollbacks: Sequence[Mapping[str, Any]]) -> None:
        """The run goes back to `tokens`; the last of its rollbacks says why."""

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Take the run's final figures (summary.json)."""

    def keep_report(self) -> None:
        """Take the report and the generated text that lie in the run's folder."""


@contextmanager
def open_tracker(
    config: RunConfig, run: RunFolder, resources: Resources, heat_maps: HeatMaps
) -> Generator[Tracker]:
    """The tracker that `config.logger` names, closed when the run ends, as failed if it did.
    `heat_maps` draws the experts of a finished run, by title."""
    session = None
    if is_wanted(config.logger) and rank() == 0:
        session = start(config.logger, run.path, entry_of(config, run, resources))
    if session is None:
        yield Tracker()
        return
    tracker = WandbTracker(session, run, training_flops(1, config.flops_per_token), heat_maps)
    try:
        yield tracker
    except BaseException:
        tracker.finish(exit_code=1)
        raise
    tracker.finish(exit_code=0)


def track_tasks(config: RunConfig, run: RunFolder, resources: Resources) -> None:
    """Send the scores of a finished run's tasks to its entry, where W&B is wanted."""
    if not is_wanted(config.logger):
        return
    session = start(config.logger, run.path, entry_of(config, run, resources))
    if session is None:
        return
    guarded = Guard("the scores lie in the run's folder")
    with guarded():
        if (table := task_table(run.path)) is not None:
            session.log({"tasks": table})
        target: Any = session.summary
        target.update(flat("final/tasks", task_figures(run.path)))
    with guarded():
        session.finish()


def entry_of(config: RunConfig, run: RunFolder, resources: Resources) -> Entry:
    """Within a study a run is named by its swept values, `num_experts=16, seed=0`."""
    experts = counted(config.model.num_experts, "expert") if config.model.is_sparse else "dense"
    text = "unfiltered" if config.data.filter.name == "none" else "filtered"
    return Entry(
        id=run.id,
        name=config.study.cell or run_name(config),
        group=config.study.name,
        job_type="train",
        tags=(config.model.name, experts, text, f"seed {config.seed}"),
        config=_plain(config, resources),
    )


def training_flops(tokens: float, flops_per_token: float) -> float:
    """Training FLOPs of `tokens`: the backward pass costs twice the forward one."""
    return 3 * flops_per_token * tokens


class WandbTracker(Tracker):
    """A run of wandb. The first failure of wandb is logged; training goes on."""

    def __init__(
        self,
        session: "wandb.Run",
        run: RunFolder,
        flops_of_a_token: float,
        heat_maps: HeatMaps,
    ) -> None:
        self._run, self._session, self._heat_maps = run, session, heat_maps
        self._flops_of_a_token = flops_of_a_token
        self._guarded = Guard("training goes on")
        # Any column can be an x axis; these are the ones that runs are compared along.
        for name in ("tokens", "flops", "train_seconds", "joules"):
            session.define_metric(name)
        session.define_metric("*", step_metric="tokens")
        # By their whole names: of two patterns that match, wandb takes the first.
        session.define_metric("held_out/mean", step_metric="tokens", summary="min,last")
        session.define_metric("tokens_per_second", step_metric="tokens", summary="mean")
        # A resumed run repeats the rows after its checkpoint, to the last bit: sent once.
        summary: Any = session.summary
        self._tokens_sent = float(summary.get("tokens") or 0)
        self._rollbacks_sent = int(summary.get("rollbacks") or 0)

    def log(self, row: Mapping[str, float], rollbacks: int = 0) -> None:
        # Fewer: a run that was cut off after a rollback takes the way to it once more.
        if rollbacks < self._rollbacks_sent or row["tokens"] <= self._tokens_sent:
            return
        self._tokens_sent = row["tokens"]
        plain = {name: value for name, value in row.items() if _is_sent(name, value)}
        plain["flops"] = self._flops_of_a_token * row["tokens"]
        with self._guarded():
            self._session.log(plain | load_figures(row))

    def go_back(self, tokens: int, rollbacks: Sequence[Mapping[str, Any]]) -> None:
        """Log the rollback as an event. The rows that follow begin at `tokens` again, so a curve
        shows the spike, and from where the run went on."""
        if len(rollbacks) <= self._rollbacks_sent:  # by a process that was cut off after it
            return
        self._tokens_sent, self._rollbacks_sent = float(tokens), len(rollbacks)
        told = {name: value for name, value in rollbacks[-1].items() if value is not None}
        with self._guarded():
            self._session.log(
                {"tokens": tokens, "rollbacks": len(rollbacks), **flat("rollback", told)}
            )

    def summarize(self, summary: Mapping[str, Any]) -> None:
        import wandb

        told = {
            **summary,
            "flops": self._flops_of_a_token * summary["tokens"],
            "load": {str(layer["layer"]): layer for layer in summary["load"]},
            "rollbacks": {str(n): one for n, one in enumerate(summary["rollbacks"], 1)},
        }
        with self._guarded():
            maps = self._heat_maps(self._run.path)
            if maps:
                self._session.log({name: wandb.Image(pixels(one)) for name, one in maps.items()})
            target: Any = self._session.summary
            target.update(flat("final", told))

    def keep_report(self) -> None:
        import wandb

        report, generated = self._run.report_file, self._run.path / "generated.json"
        with self._guarded():
            artifact = wandb.Artifact(f"run-{self._run.id}", type="report")
            for file in (report, generated):
                if file.is_file():
                    artifact.add_file(str(file))
            self._session.log_artifact(artifact)
            shown: dict[str, Any] = {
                "report": wandb.Html(report.read_text(encoding="utf-8"), inject=False)
            }
            if samples := Record.read(self._run.path).generated:
                columns = ("prompt", "temperature", "text")
                rows: list[Any] = [[sample.get(name) for name in columns] for sample in samples]
                shown["generated"] = wandb.Table(columns=[*columns], data=rows)
            if (table := task_table(self._run.path)) is not None:
                shown["tasks"] = table
            self._session.log(shown)

    def finish(self, exit_code: int) -> None:
        with self._guarded():
            self._session.finish(exit_code=exit_code)


def _is_sent(name: str, value: float) -> bool:
    """Whether W&B has a column of it. The load of an expert is in `load_figures`; the loss of a
    source is NaN in rows without a token of it, always for a domain that is not trained on."""
    if name.startswith("load/"):
        return False
    return not (name.startswith("loss/") and math.isnan(value))


def pixels(figure: "Figure") -> "NDArray[np.uint8]":
    """`[height, width, RGBA]`; wandb itself would import pyplot for it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def load_figures(row: Mapping[str, float]) -> dict[str, float]:
    """Three curves a layer in place of one an expert: the busiest and the idlest expert's load over
    an even share, and the entropy of the shares over that of even ones (1: even)."""
    by_layer: dict[str, list[float]] = {}
    for name, share in row.items():
        if name.startswith("load/"):
            by_layer.setdefault(name.split("/")[1], []).append(share)
    figures: dict[str, float] = {}
    for layer, shares in by_layer.items():
        entropy = -sum(share * math.log(share) for share in shares if share > 0)
        figures[f"load/{layer}/busiest"] = max(shares) * len(shares)
        figures[f"load/{layer}/idlest"] = min(shares) * len(shares)
        figures[f"load/{layer}/entropy"] = entropy / math.log(len(shares))
    return figures


def _plain(config: RunConfig, resources: Resources) -> dict[str, Any]:
    """The configuration as a nested mapping, with derived sizes and the machine."""
    model = config.model
    derived = {
        "parameters": model.num_params,
        "active_parameters": model.num_active_params,
        "embedding_parameters": model.num_embedding_params,
        "flops_per_token": config.flops_per_token,
        "steps": config.training.num_steps,
        **dataclasses.asdict(resources),
        "machine": machine_of(resources),
    }
    return {**dataclasses.asdict(config), "derived": derived}


def flat(prefix: str, value: Any) -> dict[str, Any]:
    """Nested mappings to `prefix/key/key`: each a column of wandb's table."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    columns: dict[str, Any] = {}
    for key, part in cast(Mapping[str, Any], value).items():
        columns |= flat(f"{prefix}/{key}", part)
    return columns
