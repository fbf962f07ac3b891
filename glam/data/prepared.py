"""The result of preparation: tokens by component for training and evaluation, and statistics."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.data.packed import PackedComponent
from glam.data.texts import Texts
from glam.data.tokenizer import Tokenizer
from glam.data.tokens import Encoded

MOST_ORDERED = 1 << 20  # documents of a component whose places are held in memory: 25 bytes each


@dataclass(frozen=True, eq=False)
class Component:
    """One component of the mixture. Its documents are slices of memory-mapped tokens: document
    `d` is `parts[part[d]][starts[d] : starts[d] + lengths[d]]`, its bos first; all arrays
    `[documents]`."""

    name: str
    weight: float  # share of the training tokens
    parts: tuple[NDArray[np.integer], ...]  # tokens of each source of the component
    sources: NDArray[np.uint8]  # of each part, an index into `PreparedData.sources`
    part: NDArray[np.uint16]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def num_tokens(self) -> int:
        """Slots of one epoch, a bos for each document included."""
        return int(self.lengths.sum())


AnyComponent = Component | PackedComponent


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Tokens to train on and to hold out, memory-mapped.

    `funnel` has a row for each source and step (read, distinct, held out, training, pages, kept;
    before the last one `without overlap`, where that is removed) with documents (pages, from there
    on), characters and, once encoded, tokens. `samples` are pages that the filter kept and dropped,
    with their scores; `quality` has `kept_share` by source, and the `auc` of a classifier that was
    trained here; it is empty without a filter."""

    fingerprint: str  # of the tokens
    tokenizer: Tokenizer
    sources: list[str]
    components: list[AnyComponent]
    held_out: dict[str, Encoded]
    funnel: list[dict[str, Any]]
    samples: dict[str, list[dict[str, Any]]]
    quality: dict[str, Any] = field(default_factory=dict[str, Any])
    text_fingerprint: str = ""  # of the text as it was read
    # by source: name, license and origin (of a hub: repository and commit), where they are known
    origins: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    texts: Texts | None = None  # the text itself; None where only its tokens are known
    classifier: Path | None = None  # the folder of the quality classifier that was trained here

    @property
    def domains(self) -> list[str]:
        return list(self.held_out)


def join(
    name: str, weight: float, parts: list[tuple[int, Encoded, NDArray[np.bool_] | None]]
) -> AnyComponent:
    """A component of the kept documents of its sources: `(source, encoded, kept [documents])`, with
    None for `kept` where all are. Up to `MOST_ORDERED` documents are trained on in an order of
    their own; of more, rows are."""
    sources = np.array([source for source, _, _ in parts], np.uint8)
    many = sum(len(encoded) for _, encoded, _ in parts) > MOST_ORDERED
    if many and all(kept is None for *_, kept in parts):
        return PackedComponent(name, weight, tuple(part for _, part, _ in parts), sources)
    chosen = [
        (encoded, np.ones(len(encoded), bool) if kept is None else kept)
        for _, encoded, kept in parts
    ]
    return Component(
        name=name,
        weight=weight,
        parts=tuple(encoded.tokens for encoded, _ in chosen),
        sources=sources,
        part=np.repeat(np.arange(len(parts)), [kept.sum() for _, kept in chosen]).astype(np.uint16),
        starts=np.concatenate([encoded.offsets[:-1][kept] for encoded, kept in chosen]),
        lengths=np.concatenate([encoded.lengths[kept] for encoded, kept in chosen]),
    )
