"""What the JSON files of `task=analyze` and `task=bias` hold: their types, as they are read."""

from typing import Any

from typing_extensions import TypedDict  # as pydantic needs it before Python 3.12

from glam.files import strict
from glam.runs.contents import Amount, Count


@strict(unknown="allow")
class ExpertsLoad(TypedDict):
    """Shares of a layer's choices, of all tokens and of those of a class and of a domain."""

    layer: Count
    share: list[Amount]
    by_class: dict[str, list[Amount]]
    by_domain: dict[str, list[Amount]]


@strict(unknown="allow")
class BitsFound(TypedDict):
    """Mutual information in bits: as counted, by chance, and their difference with its interval."""

    bits: float
    null: float
    excess: float
    low: float
    high: float


@strict(unknown="allow")
class LayerInformation(BitsFound):
    """… of a layer's expert and a label of the token."""

    layer: Count
    about: str


@strict(unknown="allow")
class LayerAgreement(BitsFound):
    """… of a token's experts in two layers."""

    layers: list[Count]


@strict(unknown="allow")
class ExpertToken(TypedDict):
    """A token that an expert gets often: its share of the expert's tokens, and the expert's share
    of the token's occurrences."""

    piece: str
    share: Amount
    of_token: Amount


@strict(unknown="allow")
class ExpertRow(TypedDict):
    """An expert: its share of the tokens, the bits that its tokens are told apart by, less chance,
    and the tokens that it gets most."""

    layer: Count
    expert: Count
    share: Amount
    information: dict[str, float]
    tokens: list[ExpertToken]


@strict(unknown="allow")
class ExpertClaim(TypedDict):
    """A specialisation that one half of the documents picked, as the other half shows it."""

    layer: Count
    expert: Count
    about: str
    label: str
    lift: Amount
    low: Amount | None
    high: Amount | None
    p: Amount
    found: bool


@strict(unknown="allow")
class LoadHistory(TypedDict):
    """The load of a layer at the points of `metrics.csv`."""

    layer: Count
    busiest: list[Amount]
    elsewhere: list[Amount]


@strict(unknown="allow")
class TrainingLoad(TypedDict):
    """How the load came about."""

    tokens: list[Amount]
    layers: list[LoadHistory]


@strict(unknown="allow")
class Analysis(TypedDict):
    """`analysis.json`: what the experts do, as `task=analyze` found it."""

    tokens: Count
    documents: Count
    num_experts: Count
    documents_by_domain: dict[str, Count]
    fewest_documents: Count
    shuffles: Count
    load: list[ExpertsLoad]
    information: list[LayerInformation]
    agreement: list[LayerAgreement]
    experts: list[ExpertRow]
    claims: list[ExpertClaim]
    training: TrainingLoad


@strict(unknown="allow")
class SavedEffect(TypedDict):
    """A bias in nats (or in toxicity), with an interval and a p-value that are corrected for all
    that was tested with it."""

    effect: float
    low: float
    high: float
    p: Amount
    units: Count
    found: bool


@strict(unknown="allow")
class SavedAssociation(SavedEffect):
    """… of the model."""

    association: str


@strict(unknown="allow")
class ExpertEffect(SavedAssociation):
    """… that goes through an expert."""

    layer: Count
    expert: Count


@strict(unknown="allow")
class Bias(TypedDict):
    """`bias.json`: what a run associates with groups of people, as `task=bias` found it."""

    shuffles: Count
    associations: list[SavedAssociation]
    coreference: dict[str, Any]
    words: dict[str, Any]
    toxicity: list[SavedAssociation]
    experts: list[ExpertEffect]
    num_tested: Count


@strict(unknown="allow")
class CorrectedAssociation(TypedDict):
    """A bias before and after experts were scaled, and its change."""

    association: str
    before: SavedEffect
    after: SavedEffect
    change: SavedEffect


@strict(unknown="allow")
class LossChange(TypedDict):
    """Held-out loss of a domain before and after, in nats per token."""

    domain: str
    before: Amount
    after: Amount
    change: float
    low: float | None
    high: float | None
    documents: Count


@strict(unknown="allow")
class TaskChange(TypedDict):
    """The score of a task before and after, on the same items."""

    task: str
    metric: str
    column: str
    items: Count
    before: float
    after: float
    change: float
    low: float | None
    high: float | None
    p: Amount


@strict(unknown="allow")
class Correction(TypedDict):
    """`correction.json`: what scaling experts changes, as `task=bias task.expert_scale=…` found."""

    expert_scale: list[str]
    associations: list[CorrectedAssociation]
    loss: list[LossChange]
    tasks: list[TaskChange]
