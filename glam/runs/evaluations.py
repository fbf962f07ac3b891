"""The folder `evaluation` of a run: the scores of every suite that it was judged on."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NotRequired, cast

from annotated_types import Ge
from typing_extensions import TypedDict  # as pydantic needs it before Python 3.12

from glam.config import OWN, EvaluationConfig
from glam.errors import UserError
from glam.files import read_json_if_there, strict
from glam.log import log

FOLDER = "evaluation"
IN_NAME = ("limit", "max_length")  # keys of evaluation that are part of a suite's name where set
ITEMS, HARNESS = ".items.json", ".lm_eval.json"
Count = Annotated[int, Ge(0)]


@strict(unknown="allow")
class SavedClean(TypedDict):
    """A metric on the items without overlap with training text; None where there is no such
    item."""

    items: Count
    value: float | None
    stderr: float | None
    low: float | None
    high: float | None


@strict(unknown="allow")
class SavedScore(TypedDict):
    """A metric of a task at a number of demonstrations."""

    task: str
    metric: str
    value: float | None
    stderr: float | None
    low: float | None
    high: float | None
    chance: float | None
    items: Count
    num_fewshot: Count
    column: str  # "8-shot"; "" where each task has its own number of demonstrations
    is_first: bool
    items_digest: str
    published: NotRequired[dict[str, dict[str, Any]]]  # by model: value, source, doubt
    clean: NotRequired[SavedClean | None]  # None where the overlap is not known


@strict(unknown="allow")
class SavedSuite(TypedDict):
    """`evaluation/<suite>.json`."""

    suite: str
    scores: list[SavedScore]
    missing: dict[str, str]
    averages: dict[str, dict[str, Any]]
    versions: NotRequired[dict[str, str]]


@strict(unknown="allow")
class SavedItems(TypedDict):
    """The score of every item of a task, in their order. Equal `digest`s: equal items."""

    task: str
    metric: str
    column: str
    digest: str
    each: list[float]
    clusters: list[str] | None


@strict(unknown="allow")
class SavedSuiteItems(TypedDict):
    """`evaluation/<suite>.items.json`."""

    suite: str
    tasks: list[SavedItems]


def name_of(suite: str, asked: EvaluationConfig) -> str:
    """Of the files of a suite, and in tables: `glam29-limit=50` where other items or prompts were
    asked for than by default, since those scores are others."""
    usual = {one.name: one.default for one in fields(EvaluationConfig)}
    set_here = [name for name in IN_NAME if getattr(asked, name) != usual[name]]
    return "-".join([suite, *(f"{name}={getattr(asked, name)}" for name in set_here)])


def column_title(column: str) -> str:
    """Of a column among others."""
    return column or OWN


def file_of(suite: str, ending: str = ".json") -> str:
    """The name of a suite's file, within the folder of a run."""
    return f"{FOLDER}/{suite.replace('/', '-')}{ending}"


def read_suites(run: Path) -> list[SavedSuite]:
    """Of every suite that the run was judged on, by name. One that is not as it was written is left
    out, with a warning."""
    files = sorted((run / FOLDER).glob("*.json"))
    of_suites = [file for file in files if not file.name.endswith((ITEMS, HARNESS))]
    return [found for file in of_suites if (found := _read(file, SavedSuite)) is not None]


def read_suite(run: Path, suite: str) -> SavedSuite | None:
    """The scores of a suite; None where they are not there, or not as they were written."""
    return _read(run / file_of(suite), SavedSuite)


def read_items(run: Path, suite: str) -> SavedSuiteItems | None:
    """The scores of the suite's items; None where they are not there."""
    return _read(run / file_of(suite, ITEMS), SavedSuiteItems)


def _read(file: Path, kind: Any) -> Any:
    try:
        return read_json_if_there(file, kind, way_out="it is left out")
    except UserError as error:
        log.warning(str(error))
        return None


def by_task(saved: SavedSuite) -> dict[str, dict[str, Any]]:
    """The first metric of each task, as `summary.json` has it. A task at several numbers of
    demonstrations stands there once for each: `arc_easy, 8-shot`."""
    kept = (
        "metric",
        "value",
        "stderr",
        "low",
        "high",
        "chance",
        "items",
        "num_fewshot",
        "items_digest",
    )
    return {
        ", ".join(filter(None, (one["task"], one["column"]))): {
            name: cast(dict[str, Any], one)[name] for name in kept
        }
        for one in saved["scores"]
        if one["is_first"]
    }
