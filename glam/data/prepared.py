"""The result of preparation: tokens by component for training and evaluation, and statistics."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.data.texts import Texts
from glam.data.tokenizer import Tokenizer
from glam.data.tokens import Encoded


@dataclass(frozen=True, eq=False)
class Component:
    """One component of the mixture. Its documents are slices of memory-mapped tokens: document
    `d` is `parts[part[d]][starts[d] : starts[d] + lengths[d]]`, its bos first; all arrays
    `[documents]`."""

    name: str
    weight: float  # share of the training tokens
    parts: tuple[NDArray[np.integer], ...]  # tokens of each source of the component
    sources: NDArray[np.uint8]  # of each part, an index into `PreparedData.sources`
    part: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def num_tokens(self) -> int:
        """Slots of one epoch, a bos for each document included."""
        return int(self.lengths.sum())


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Tokens to train on and to hold out, memory-mapped.

    `funnel` has a row for each source and step (read, distinct, held out, training, pages, kept)
    with documents (pages, from there on), characters and, once encoded, tokens. `samples` are
    pages that the filter kept and dropped, with their scores; `quality` has
    `kept_share` by source, and the `auc` of a classifier that was trained here; it is empty without
    a filter."""

    fingerprint: str  # of the tokens
    tokenizer: Tokenizer
    sources: list[str]
    components: list[Component]
    held_out: dict[str, Encoded]
    funnel: list[dict[str, Any]]
    samples: dict[str, list[dict[str, Any]]]
    quality: dict[str, Any] = field(default_factory=dict[str, Any])
    text_fingerprint: str = ""  # of the text as it was read
    texts: Texts | None = None  # the text itself; None where only its tokens are known
    classifier: Path | None = None  # the folder of the quality classifier that was trained here

    @property
    def domains(self) -> list[str]:
        return list(self.held_out)


def join(
    name: str, weight: float, parts: list[tuple[int, Encoded, NDArray[np.bool_]]]
) -> Component:
    """A component of the kept documents of its sources: `(source, encoded, kept [documents])`."""
    return Component(
        name=name,
        weight=weight,
        parts=tuple(encoded.tokens for _, encoded, _ in parts),
        sources=np.array([source for source, _, _ in parts], np.uint8),
        part=np.repeat(np.arange(len(parts)), [kept.sum() for *_, kept in parts]).astype(np.uint8),
        starts=np.concatenate([encoded.offsets[:-1][kept] for _, encoded, kept in parts]),
        lengths=np.concatenate([encoded.lengths[kept] for _, encoded, kept in parts]),
    )
