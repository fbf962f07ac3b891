"""A sparse model that begins with a dense one's weights."""

from experiments.pages.differences import compared
from experiments.pages.tables import rows_of
from experiments.pages.words import Claim

ARMS = "upcycling/results.csv"


def _upcycled() -> list[str]:
    arms = dict.fromkeys(row["arm"] for row in rows_of(ARMS, "arm"))
    return [arm for arm in arms if arm.startswith("upcycled")]


def upcycling() -> Claim:
    """Against training anew, at equal further tokens."""
    what = (
        "Mean held-out loss less that of a sparse model trained anew, at equal further tokens, "
        "nats per token"
    )
    return compared(ARMS, "arm", "anew", what, only=_upcycled())


def upcycled_over_dense() -> str:
    """What the experts add to the tokens before."""
    what = "Mean held-out loss less that of the dense model trained on for as long, nats per token"
    found = compared(ARMS, "arm", "dense trained on", what, only=_upcycled())
    return f"- Do the experts add to what the tokens before bring? {found}"
