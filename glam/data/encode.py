"""Tokens of a shard: its held-out documents, and what is trained on of it.

    training/, held_out/  as `write_encoded` leaves them
    counts.json           documents and characters of each step
    samples.json          where only kept pages are encoded: some that were kept, some that were not

What is trained on as one document is a page of the pool, or a whole curated document. Of a small
pool every page is encoded, so that runs with and without a filter share their tokens; of a large
one only the pages that the filter keeps are.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.config import FilterConfig
from glam.data.hashing import uniform
from glam.data.pages import Pages
from glam.data.quality import keeps, read_ranks
from glam.data.shards import Shard
from glam.data.split import Sides
from glam.data.tokenizer import Tokenizer
from glam.data.tokens import write_encoded

SAMPLES = 10  # pages shown of each kind
SHOWN = 600  # characters of each


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How the filter chooses among the pages of a shard: their scores, the folder of the whole
    pool's ranks, and the rule."""

    scores: Path
    ranks: Path
    rule: FilterConfig
    seed: int

    def scored(self) -> NDArray[np.float64]:
        """Ranks of the pages, or their raw scores where those are not calibrated `[pages]`."""
        scores = np.load(self.scores / "scores.npy")
        return read_ranks(self.ranks).rank(scores) if self.rule.calibrate else scores

    def keeps(self, scores: NDArray[np.float64], hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which pages are kept `[pages]`."""
        return keeps(scores, uniform(hashes, self.seed, "pareto"), self.rule)


def write_tokens(
    folder: Path,
    *,
    shard: Path,
    sides: Path,
    tokenizer: Path,
    pages: Pages | None = None,
    choice: Choice | None = None,
    removed: Path | None = None,
) -> None:
    """Encode a shard's `pages` where they are given, as `choice` chooses; else whole documents. Of
    those that are chosen, the ones that overlap with evaluation sets are left out: the folder
    `removed` says which."""
    whole, each, encoder = Shard(shard), Sides.read(sides), Tokenizer(tokenizer)
    counts = _counts(whole, each)
    if pages is None:
        training = whole.texts(each.training)
    elif choice is None:
        training = pages.texts()
    else:
        scores = choice.scored()
        clean = clean_units(removed, len(scores))
        kept = choice.keeps(scores, pages.hashes) & clean
        training = pages.texts(np.flatnonzero(kept))
        counts["pages"] = pages.counts
        counts["kept"] = [int(kept.sum()), int(pages.num_bytes[kept].sum())]
        found = _samples(pages, scores, kept, clean, choice.seed)
        (folder / "samples.json").write_text(json.dumps(found))
    write_encoded(folder / "training", training, encoder)
    write_encoded(folder / "held_out", whole.texts(each.held_out), encoder)
    (folder / "counts.json").write_text(json.dumps(counts))


def clean_units(removed: Path | None, count: int) -> NDArray[np.bool_]:
    """Which pages or documents do not overlap with evaluation sets `[count]`."""
    return np.ones(count, bool) if removed is None else ~np.load(removed / "units.npy")


def _counts(shard: Shard, sides: Sides) -> dict[str, Any]:
    return {
        step: [len(chosen), int(shard.characters[chosen].sum())]
        for step, chosen in {
            "read": np.arange(len(shard.hashes)),
            "distinct": np.concatenate([sides.training, sides.held_out]),
            "held out": sides.held_out,
            "training": sides.training,
        }.items()
    }


def drawn(hashes: NDArray[np.uint64], chosen: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """The places of a few of the chosen pages, by their draws."""
    places = np.flatnonzero(chosen)
    draws = uniform(hashes[places], seed, "shown")
    return places[np.argsort(draws, kind="stable")[:SAMPLES]]


def shown(text: str) -> str:
    """As much of a page as is shown."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _samples(
    pages: Pages,
    scores: NDArray[np.float64],
    kept: NDArray[np.bool_],
    clean: NDArray[np.bool_],
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    def some(chosen: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
        places = np.sort(drawn(pages.hashes, chosen, seed))
        draws = uniform(pages.hashes[places], seed, "shown")
        for place, draw, text in zip(places, draws, pages.texts(places), strict=True):
            yield {"draw": float(draw), "score": float(scores[place]), "text": shown(text)}

    return {"kept": list(some(kept)), "dropped": list(some(clean & ~kept))}
