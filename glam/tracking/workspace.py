# The library says what it exports in its documentation alone.
# pyright: reportPrivateImportUsage=false
"""A workspace and a report on W&B of a run or a study, laid out from what was logged."""

import importlib.util
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glam.config import LoggerConfig
from glam.log import log
from glam.runs.folder import RunFolder
from glam.runs.record import Record
from glam.runs.study_folder import StudyFolder
from glam.tracking.session import first_line, logged_in

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

LOSS = "final/loss/mean"
COLUMNS = (
    LOSS,
    *("final/tokens", "final/flops", "final/train_seconds", "final/energy/joules"),
    *("final/parameters/total", "final/parameters/active"),
)
COSTS = {
    "tokens": "tokens",
    "flops": "training FLOPs",
    "train_seconds": "seconds of training",
    "joules": "joules of training",
}
# Groups of conf/: the key of their choice's name in the configuration.
CHOICES = {"data": "data.filter.name"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Contents of a workspace: runs by id, swept keys, domains and layers."""

    name: str
    runs: list[str]
    swept: list[str]  # keys of the configuration that runs are grouped by, the seed apart
    domains: list[str]
    layers: list[str]  # with experts


def subject_of(found: RunFolder | StudyFolder) -> Subject:
    """The subject of a run, or of those runs of a study that exist."""
    if isinstance(found, StudyFolder):
        runs = [run for run in found.runs if run.is_dir()]
        swept = [_config_key(key) for key in found.swept if key != "seed"]
    else:
        runs, swept = [found.path], []
    domains: dict[str, None] = {}
    layers: dict[str, None] = {}
    for record in map(Record.read, runs):
        domains |= dict.fromkeys(record.domains)
        layers |= dict.fromkeys(column.split("/")[0] for column in record.metrics.under("load"))
    return Subject(
        name=found.path.name,
        runs=[RunFolder(run).id for run in runs],
        swept=swept,
        domains=list(domains),
        layers=sorted(layers, key=int),
    )


def _config_key(key: str) -> str:
    dotted = key.replace("/", ".")
    is_choice = "." not in key
    return CHOICES.get(key, f"{dotted}.name" if is_choice or "/" in key else dotted)


def publish(logger: LoggerConfig, subject: Subject) -> None:
    """Save a new workspace and a new report of `subject`, and print their addresses. Where that is
    not possible, the reason is logged."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        _say("wandb-workspaces is not installed; .venv/bin/pip install -e '.[workspaces]'")
        return
    if not logged_in():
        _say("W&B has no key here; run wandb login, then the same command again")
        return
    import wandb

    try:
        entity = logger.entity or str(wandb.Api().default_entity)
        shown: Any = workspace(subject, entity, logger.project)
        told: Any = report(subject, entity, logger.project)
        for made in (shown, told):
            made.save()
    except (wandb.Error, ValueError, OSError) as error:
        _say(first_line(error))
        return
    print(f"workspace {shown.url}\nreport    {told.url}")


def _say(reason: str) -> None:
    log.warning(f"no workspace on W&B: {reason}")


def workspace(subject: Subject, entity: str, project: str) -> "ws.Workspace":
    """The workspace of a run or a study: sections of panels, filtered to its runs."""
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        entity=entity,
        project=project,
        name=re.sub(r"[^\w.,-]", " ", subject.name),  # as far as W&B allows
        sections=[
            ws.Section(name=title, panels=list(panels), is_open=True)
            for title, panels in sections(subject).items()
        ],
        settings=ws.WorkspaceSettings(x_axis="tokens", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("ID").isin(subject.runs)),
            groupby=[ws.Config(key) for key in subject.swept],
            order=[ws.Ordering(ws.Summary(LOSS), ascending=True)],
            pinned_columns=["run:displayName", *(f"summary:{name}" for name in COLUMNS)],
        ),
    )


def report(subject: Subject, entity: str, project: str) -> "wr.Report":
    """The same panels with words between them."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    runset = wr.Runset(
        name=subject.name,
        filters=ws.And(ws.Metric("ID").isin(subject.runs)),
        groupby=[f"config.{key}" for key in subject.swept],
        order=[wr.OrderBy(wr.SummaryMetric(LOSS), ascending=True)],
    )
    blocks: list[Any] = [wr.TableOfContents()]
    for title, panels in sections(subject).items():
        grid = wr.PanelGrid(runsets=[runset], panels=list(panels), hide_run_sets=True)
        blocks += [wr.H2(title), wr.P(WORDS[title]), grid]
    return wr.Report(
        entity=entity, project=project, title=subject.name[:128], blocks=blocks, width="fluid"
    )


WORDS = {
    "Study": "Final held-out loss of the runs by their swept values.",
    "Loss by domain": "Held-out loss on whole documents, nats per token, while training.",
    "Loss by cost": "Mean held-out loss by tokens, FLOPs, seconds and joules of training.",
    "Experts": (
        "Entropy of each layer’s load over that of an even one; the busiest and the idlest expert "
        "over an even share; and the load of each expert by domain."
    ),
    "Throughput and energy": "Throughput during training, and the totals at its end.",
}


def sections(subject: Subject) -> dict[str, list[Any]]:
    """Panels by the title of their section, made anew on every call: each has an id of its own."""
    found = {
        "Study": _study(subject),
        "Loss by domain": _domains(subject),
        "Loss by cost": [_line("held_out/mean", f"Loss by {COSTS[x]}", x=x) for x in COSTS],
        "Experts": _experts(subject),
        "Throughput and energy": _pace(),
    }
    return {title: panels for title, panels in found.items() if panels}


def _line(metric: str, title: str, *, x: str = "tokens") -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(title=title, x=x, y=[metric], title_x=COSTS[x], max_runs_to_show=100)


def _study(subject: Subject) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    if len(subject.runs) == 1:
        return []
    loss = wr.SummaryMetric(LOSS)
    scatters = [
        wr.ScatterPlot(title=f"Loss by {key}", x=wr.Config(key), y=loss) for key in subject.swept
    ]
    axes = [wr.ParallelCoordinatesPlotColumn(wr.Config(key)) for key in subject.swept]
    axes.append(wr.ParallelCoordinatesPlotColumn(loss))
    return [
        *scatters,
        wr.ParallelCoordinatesPlot(title="All that is swept", columns=axes),
        wr.BarPlot(title="Final mean loss", metrics=[LOSS]),
        wr.RunComparer(diff_only="split"),
    ]


def _domains(subject: Subject) -> list[Any]:
    names = ["mean", *subject.domains] if len(subject.domains) != 1 else subject.domains
    return [_line(f"held_out/{name}", name) for name in names]


def _experts(subject: Subject) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    if not subject.layers:
        return []
    curves = [
        _line(f"load/{layer}/{name}", f"Layer {layer}: {name}")
        for layer in subject.layers
        for name in ("entropy", "busiest", "idlest")
    ]
    maps = [f"{kind}/{layer}" for kind in ("load_map", "domain_map") for layer in subject.layers]
    return [*curves, wr.MediaBrowser(title="Load over training, and by domain", media_keys=maps)]


def _pace() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    final = {
        "Tokens per second": "final/tokens_per_second",
        "Joules of training": "final/energy/joules",
        "Joules per million tokens": "final/energy/joules_per_million_tokens",
    }
    return [
        _line("tokens_per_second", "Tokens per second, while training"),
        _line("joules", "Joules, while training"),
        *(wr.BarPlot(title=title, metrics=[metric]) for title, metric in final.items()),
    ]
