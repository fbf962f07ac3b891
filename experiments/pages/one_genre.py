"""Filtering on one genre, half of it spoilt."""

from experiments.pages.differences import compared, labelled
from experiments.pages.words import Claim, Effect, listed

GENRE = "one_genre/results.csv"


def one_genre() -> Claim:
    """Of the clean half of the genre: the mean has the spoilt half in it."""
    filtered = {"filtered": ""}
    spoilt = labelled(GENRE, "data", "unfiltered", column="loss/spoilt", words=filtered)
    told = listed(Effect.of(differences).told() for differences in spoilt.values())
    what = (
        "Loss on clean held-out pages after filtered text less that after unfiltered, nats per "
        "token"
    )
    return compared(
        GENRE, "data", "unfiltered", what,
        column="loss/clean", words=filtered, after=f"; on spoilt pages {told}",
    )  # fmt: skip
