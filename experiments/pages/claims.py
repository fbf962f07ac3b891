"""What every study claims, in one sentence: of its page, of docs/results.md and of the README."""

from collections.abc import Callable

from experiments.pages import (
    ablations,
    embedded_tasks,
    laws,
    learning_rates,
    one_genre,
    serving,
    spent,
    upcycling,
)
from experiments.pages.differences import compared
from experiments.pages.tables import NotTrainedError
from experiments.pages.words import Claim
from glam.analysis.paired import EXPERTS

FIRST = "first_grid/five_seeds.csv"
LESS_DENSE = "Mean held-out loss less the dense twin's, nats per token"
FILTERED = "Mean held-out loss after filtered text less that after unfiltered, nats per token"
CHOSEN = "Mean held-out loss less that after unfiltered text, nats per token"

CLAIMS: dict[str, Callable[[], Claim]] = {
    "first_grid": lambda: compared(FIRST, EXPERTS, "1", LESS_DENSE),
    "expert_scaling": lambda: spent.per_doubling("expert_scaling/results.csv"),
    "moe_vs_dense": lambda: spent.fewer_tokens("moe_vs_dense/results.csv"),
    "equal_time": spent.equal_seconds,
    "energy": spent.less_energy,
    "data_filtering": lambda: compared(
        "data_filtering/results.csv", "data", "unfiltered", FILTERED, words={"filtered": ""}
    ),
    "data_controls": lambda: compared("data_controls/results.csv", "data", "unfiltered", CHOSEN),
    "one_genre": one_genre.one_genre,
    "scaling_law": laws.law,
    "lead": laws.lead,
    "learning_rate": learning_rates.learning_rate,
    "upcycling": upcycling.upcycling,
    "embedded_tasks": embedded_tasks.embedded_tasks,
    "serving": serving.serving,
    **{f"ablations/{name}": one.claim for name, one in ablations.ABLATIONS.items()},
}


def claim(name: str) -> Claim:
    """Raises KeyError for a name that is no study's."""
    try:
        return CLAIMS[name]()
    except NotTrainedError:
        return Claim("Not trained yet", "")
