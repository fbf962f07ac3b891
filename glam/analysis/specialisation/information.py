"""Mutual information of the expert and a label, less what chance alone gives, in bits.

Counts of a finite text always show some information, and the more of it the rarer the expert: the
null sets the labels of other documents beside the same routes, so that every expert keeps its own
count. What is reported is the estimate less the mean of the null.
"""

from dataclasses import dataclass

import numpy as np

from glam.analysis.specialisation.labels import Documents, Floats, Ints, Labels

NORMAL = 1.959964  # of a 95 % interval


@dataclass(frozen=True, kw_only=True, eq=False)
class Information:
    """`bits` as counted, `null` as by chance, and `excess`, their difference, with its interval.
    `by_expert [E]` is the excess of the divergence of an expert's labels from all tokens', in
    bits; 0 for an expert that was never chosen."""

    bits: float
    null: float
    low: float
    high: float
    by_expert: Floats

    @property
    def excess(self) -> float:
        return self.bits - self.null


def mutual_information(
    experts: Ints,
    num_experts: int,
    labels: Labels,
    documents: Documents,
    *,
    shuffles: int,
    rng: np.random.Generator,
) -> Information:
    """Of each token's expert `[N]` and its label. The interval, 95 %, has two sources: how far the
    estimate varies between documents, and how far the null does."""
    # Labels that no token has would be empty columns of every table.
    _, values = np.unique(labels.values, return_inverse=True)
    present = Labels(labels.about, values.astype(np.int64), labels.names, labels.of_documents)
    counts = count(experts, values, num_experts)
    bits, by_expert = divergences(counts)
    null = [
        divergences(count(experts, present.shuffled(documents, rng), num_experts))
        for _ in range(shuffles)
    ]
    null_bits = np.array([whole for whole, _ in null])
    null_by_expert = np.mean([each for _, each in null], axis=0)
    error = np.hypot(_error(counts, experts, values, documents), null_bits.std(ddof=1))
    excess = bits - null_bits.mean()
    return Information(
        bits=bits,
        null=float(null_bits.mean()),
        low=float(excess - NORMAL * error),
        high=float(excess + NORMAL * error),
        by_expert=by_expert - null_by_expert,
    )


def count(experts: Ints, labels: Ints, num_experts: int) -> Floats:
    """Tokens by expert and label `[E, X]`."""
    width = int(labels.max()) + 1
    flat = np.bincount(experts * width + labels, minlength=num_experts * width)
    return flat.reshape(num_experts, width).astype(np.float64)


def divergences(counts: Floats) -> tuple[float, Floats]:
    """The mutual information in bits, and what each expert adds to it over its share: the
    Kullback-Leibler divergence of its labels from all tokens' (DeWeese & Meister, 1999)."""
    total, of_expert = counts.sum(), counts.sum(1)
    points = counts * pointwise(counts)
    by_expert = points.sum(1) / np.maximum(of_expert, 1)
    return float(points.sum() / total), by_expert


def pointwise(counts: Floats) -> Floats:
    """log2 p(e, x) / (p(e) p(x)) of every cell; 0 where nothing was counted."""
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    found = np.zeros_like(counts)
    seen = counts > 0
    found[seen] = np.log2(counts[seen] / expected[seen])
    return found


def _error(counts: Floats, experts: Ints, labels: Ints, documents: Documents) -> float:
    """Standard error by the delta method: a token's influence on the estimate is its pointwise
    information less the mean, and documents are the units that were drawn."""
    points = pointwise(counts)[experts, labels]
    influence = np.add.reduceat(points - points.mean(), documents.offsets[:-1])
    return float(np.sqrt((influence**2).sum()) / len(experts))
