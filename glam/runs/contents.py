"""What the JSON files of a run and of a study hold: their types and ranges, as they are read.

Numbers are finite. One that a run may have no finite value for (a speed of no seconds) may be null,
which is also how a NaN of an older version is read.
"""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from annotated_types import Ge, Predicate
from typing_extensions import TypedDict  # as pydantic needs it before Python 3.12

from glam.files import strict

Count = Annotated[int, Ge(0)]
Amount = Annotated[float, Ge(0)]
ByDomain: TypeAlias = dict[str, Amount]


def _rows_of_one_length(table: list[list[float]]) -> bool:
    return len({len(row) for row in table}) <= 1


Table = Annotated[list[list[Amount]], Predicate(_rows_of_one_length)]


@strict(unknown="allow")
class LayerLoad(TypedDict):
    """The load of an MoE layer's experts at the end of training."""

    layer: Count
    busiest: Amount | None
    idlest: Amount | None
    dropped: Amount | None


@strict(unknown="allow")
class SavedRollback(TypedDict):
    """A return to a healthy checkpoint."""

    step: Count
    reason: str
    loss: float | None
    limit: float | None
    restored_step: Count
    first_batch: Count
    last_batch: Count
    lost_seconds: Amount


@strict(unknown="allow")
class Energy(TypedDict):
    """Joules of a run."""

    joules: NotRequired[Amount | None]
    evaluation_joules: NotRequired[Amount | None]
    preparation_joules: NotRequired[Amount | None]
    joules_per_million_tokens: NotRequired[Amount | None]
    joules_per_nat: NotRequired[Amount | None]
    source: NotRequired[str]


@strict(unknown="allow")
class TaskResult(TypedDict):
    """The score of a task."""

    metric: str
    value: float | None
    stderr: float | None
    low: float | None
    high: float | None
    chance: float | None
    items: Count
    num_fewshot: Count
    items_digest: NotRequired[str]


@strict(unknown="allow")
class TaskOverlap(TypedDict):
    """Items of a task whose n-grams stand in the training text."""

    n: Count  # [words] of an n-gram, at most
    items: Count
    dirty: Count  # items with any n-gram in the training text
    share: Amount  # of the items, that are dirty
    rare: Count  # items with an n-gram that is no common phrase
    common: Count  # items with a common phrase; what is left where the overlap is removed
    ngrams_found: Amount  # mean share of an item's n-grams


@strict(unknown="allow")
class Overlap(TypedDict):
    """`overlap.json`: the training text beside evaluation sets."""

    removed: bool  # whether what overlaps is left out of training
    suites: dict[str, dict[str, TaskOverlap]]  # by suite and task


@strict(unknown="allow")
class Summary(TypedDict):
    """`summary.json`. docs/outputs.md says what each key means; later versions add some, and those
    that a version did not have are absent."""

    status: Literal["done", "diverged"]
    diverged: NotRequired[str | None]
    id: NotRequired[str]
    name: NotRequired[str]
    study: NotRequired[str | None]
    cell: NotRequired[str | None]
    loss: NotRequired[ByDomain]
    clean_loss: NotRequired[ByDomain]  # of documents that do not overlap with the training text
    bits_per_byte: NotRequired[ByDomain]
    tasks: NotRequired[dict[str, dict[str, TaskResult]]]  # by suite and task
    overlap: NotRequired[dict[str, dict[str, TaskOverlap]]]  # by suite and task
    num_experts: NotRequired[Count]
    parameters: NotRequired[dict[str, Count]]
    flops_per_token: NotRequired[dict[str, Count]]
    tokens: NotRequired[Count]
    tokens_per_second: NotRequired[Amount | None]
    mfu: NotRequired[Amount | None]  # share of the devices' peak
    train_seconds: NotRequired[Amount | None]
    load: NotRequired[list[LayerLoad]]
    skipped_steps: NotRequired[Count]
    rollbacks: NotRequired[list[SavedRollback]]
    seed: NotRequired[Count]
    learning_rate: NotRequired[Amount]  # at the peak of the schedule
    learning_rate_by: NotRequired[Literal["auto", "number"]]  # as it was typed
    threads: NotRequired[Annotated[int, Ge(1)]]
    precision: NotRequired[Literal["float32", "bfloat16"]]
    device: NotRequired[Literal["cpu", "cuda", "mps", "xla", "tpu"]]
    config_fingerprint: NotRequired[str]
    code_fingerprint: NotRequired[str]
    data_fingerprint: NotRequired[str]
    text_fingerprint: NotRequired[str | None]
    machine: NotRequired[dict[str, Any]]
    git: NotRequired[str | None]
    versions: NotRequired[dict[str, str]]
    energy: NotRequired[Energy]


@strict(unknown="allow")
class Failure(TypedDict):
    """`failure.json`: why a run stopped."""

    error: str
    traceback: NotRequired[str | None]
    time: NotRequired[str]


@strict(unknown="allow")
class Progress(TypedDict):
    """`progress.json`: where a job of a grid stands."""

    stage: str
    done: Amount
    total: Amount
    seconds_left: float | None
    loss: NotRequired[float | None]
    tokens_per_second: NotRequired[float | None]


@strict(unknown="allow")
class FunnelRow(TypedDict):
    """Text that is left after a step of the preparation."""

    source: str
    component: str
    role: str
    step: str
    documents: Count
    characters: Count
    tokens: Count | None


@strict(unknown="allow")
class Sample(TypedDict):
    """A page that the quality filter kept or dropped."""

    source: str
    score: NotRequired[float | None]
    text: str


@strict(unknown="allow")
class Origin(TypedDict):
    """Where a source of text is from, and under which licence."""

    name: str
    license: str
    origin: str


@strict(unknown="allow")
class Data(TypedDict):
    """`data.json`: the text of a run."""

    fingerprint: NotRequired[str]
    text_fingerprint: NotRequired[str | None]
    funnel: list[FunnelRow]
    origins: NotRequired[list[Origin]]
    samples: NotRequired[dict[str, list[Sample]]]
    quality: NotRequired[dict[str, Any]]
    epochs: NotRequired[dict[str, Amount]]


@strict(unknown="allow")
class Routing(TypedDict):
    """`routing.json`: shares of each domain's choices, by layer `[layers][domains][experts]`."""

    layers: list[Count]
    domains: list[str]
    share: list[Table]


@strict(unknown="allow")
class Generated(TypedDict):
    """A sample of `generated.json`."""

    prompt: str
    temperature: float
    text: str


@strict(unknown="allow")
class LayoutRow(TypedDict):
    """A weight in `layout.json`, and how a mesh splits it."""

    weight: str
    layers: Count
    shape: list[Count]
    axes: list[str | None]
    bytes: Count


@strict(unknown="allow")
class StudyMachine(TypedDict):
    """What the machine that a study was started on chose for its runs."""

    device: NotRequired[str]
    precision: NotRequired[Literal["float32", "bfloat16"]]
    threads: NotRequired[Annotated[int, Ge(1)]]
    throughputs: NotRequired[dict[str, Amount]]
    paces: NotRequired[dict[str, Amount]]  # before 0.2


@strict(unknown="allow")
class StudyCell(TypedDict):
    """A run that a study lists."""

    run: str
    values: dict[str, Any]


@strict(unknown="allow")
class Cells(TypedDict):
    """`cells.json`: what a study lists."""

    swept: NotRequired[list[str]]
    study: NotRequired[dict[str, Any]]
    machine: NotRequired[StudyMachine | None]
    cells: NotRequired[list[StudyCell]]


@strict(unknown="allow")
class Constant(TypedDict):
    """A constant of a scaling law."""

    value: float | None
    fitted: bool


@strict(unknown="allow")
class Law(TypedDict):
    """`law.json`: the fitted scaling law of a study."""

    constants: dict[str, Constant]
