"""Claims that an expert specialises, shown on documents that did not pick them.

Among many experts and thousands of labels some pair always stands out, most of all with rarely
chosen experts. Half of the documents therefore pick one label for each expert, and the other half
tests it. All claims of a model are tested together: the null flips the signs of whole documents'
scores, and a claim's p-value is the share of nulls in which *any* claim scores as high (Westfall &
Young's single-step maximum), so that in at most 5 % of models without specialists any is found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.analysis.specialisation.information import NORMAL, count
from glam.analysis.specialisation.labels import Documents, Floats, Ints, Labels

LEVEL = 0.05
FEWEST_DOCUMENTS = 8  # of a domain that an expert may be said to specialise in
AT_ONCE = 250  # nulls drawn at once


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That `expert` of `layer` gets more tokens with a label than its share. `lift` is the label's
    share among the expert's tokens over its share among all, on the half that tests, with a 95 %
    interval; `p` is corrected for all claims together. `low` and `high` are None where the label
    did not meet the expert in the half that tests."""

    layer: int
    expert: int
    about: str
    label: str
    lift: float
    low: float | None
    high: float | None
    p: float

    @property
    def is_found(self) -> bool:
        return self.p < LEVEL


@dataclass(frozen=True, eq=False)
class _Tested:
    """The claims of one layer about one kind of label, of the experts that have one."""

    experts: Ints  # [J]
    labels: Ints  # [J]
    scores: Floats  # [D, J] of the documents that test, each as if it had not made the shares
    excess: Floats  # [J], the sum of the documents' scores
    log_lift: Floats  # [J]
    error: Floats  # [J]


def find_claims(
    routes: Mapping[int, Ints],
    num_experts: int,
    labels: Sequence[Labels],
    documents: Documents,
    *,
    shuffles: int,
    rng: np.random.Generator,
) -> list[Claim]:
    """For each layer, expert and kind of label the one that the first half of the documents picks,
    as tested on the second. `routes` has the expert `[N]` of every token by layer."""
    first = documents.halves(rng)
    if first.all():  # no document is left to test anything
        return []
    where = [(layer, kind) for layer in routes for kind in labels]
    tested = [_test(routes[layer], num_experts, kind, documents, first) for layer, kind in where]
    scores = np.concatenate([one.scores for one in tested], axis=1)
    excess = np.concatenate([one.excess for one in tested])
    p = _familywise(scores, excess, shuffles, rng)
    found: list[Claim] = []
    for (layer, kind), one in zip(where, tested, strict=True):
        for j in range(len(one.experts)):
            log_lift, half = float(one.log_lift[j]), NORMAL * float(one.error[j])
            is_there = bool(np.isfinite(log_lift))
            found.append(
                Claim(
                    layer=layer,
                    expert=int(one.experts[j]),
                    about=kind.about,
                    label=kind.names[int(one.labels[j])],
                    lift=float(np.exp(log_lift)),
                    low=float(np.exp(log_lift - half)) if is_there else None,
                    high=float(np.exp(log_lift + half)) if is_there else None,
                    p=float(p[len(found)]),
                )
            )
    return found


def _test(
    experts: Ints, num_experts: int, labels: Labels, documents: Documents, first: NDArray[np.bool_]
) -> _Tested:
    picks_tokens = first[documents.of_token]
    barred = few_documents(labels, documents) if labels.of_documents else np.zeros(0, np.int64)
    picked = _pick(experts[picks_tokens], num_experts, labels.values[picks_tokens], barred)
    chosen = np.flatnonzero(picked >= 0)
    seconds = ~picks_tokens
    of_document = (np.cumsum(~first) - 1)[documents.of_token[seconds]]
    mine, value = experts[seconds], labels.values[seconds]
    shape = (int((~first).sum()), num_experts)
    both = _by_document(of_document, mine, value == picked[mine], shape)[:, chosen]
    of_expert = _by_document(of_document, mine, None, shape)[:, chosen]
    wanted, column = np.unique(picked[chosen], return_inverse=True)
    place, hit = np.searchsorted(wanted, value), np.isin(value, wanted)
    of_label = _by_document(of_document[hit], place[hit], None, (shape[0], len(wanted)))[:, column]
    sizes = np.bincount(of_document, minlength=shape[0]).astype(np.float64)[:, None]
    share_e, share_x = of_expert.sum(0) / sizes.sum(), of_label.sum(0) / sizes.sum()
    # Sum over a document's tokens of (is at the expert - share) (has the label - share).
    scores = both - share_e * of_label - share_x * of_expert + share_e * share_x * sizes
    totals = [part.sum(0) for part in (both, of_expert, of_label, sizes)]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_lift = np.log(totals[0] * totals[3] / (totals[1] * totals[2]))
        influence = both / totals[0] - of_expert / totals[1] - of_label / totals[2]
        error = np.sqrt(((influence + sizes / totals[3]) ** 2).sum(0))
    log_lift = np.where(totals[0] > 0, log_lift, -np.inf)
    # A document of a tenth of all tokens draws the shares a tenth of the way to its own.
    lone = scores / (1 - np.minimum(sizes / totals[3], 0.5))
    return _Tested(chosen, picked[chosen], lone, scores.sum(0), log_lift, error)


def few_documents(labels: Labels, documents: Documents) -> Ints:
    """The labels of whole documents that too few documents have: an expert of theirs cannot be told
    from one of those documents' own."""
    counts = np.bincount(labels.values[documents.offsets[:-1]], minlength=len(labels.names))
    return np.flatnonzero(counts < FEWEST_DOCUMENTS)


def _pick(experts: Ints, num_experts: int, labels: Ints, barred: Ints) -> Ints:
    """The label `[E]`, none of those barred, that most exceeds its expected count, in standard
    deviations of a Poisson count; -1 for an expert without a token, and without a label."""
    counts = count(experts, labels, num_experts)
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    residual = (counts - expected) / np.sqrt(np.maximum(expected, 1e-12))
    residual[:, barred[barred < residual.shape[1]]] = -np.inf
    there = (counts.sum(1) > 0) & np.isfinite(residual).any(1)
    return np.where(there, residual.argmax(1), -1)


def _by_document(
    document: Ints, column: Ints, weight: NDArray[np.bool_] | None, shape: tuple[int, int]
) -> Floats:
    """Tokens by document and column."""
    found = np.bincount(document * shape[1] + column, weight, minlength=shape[0] * shape[1])
    return found.reshape(shape).astype(np.float64)


def _familywise(scores: Floats, excess: Floats, shuffles: int, rng: np.random.Generator) -> Floats:
    """P-values `[J]`, corrected for all columns of `scores [D, J]`. A sum over the root of its sum
    of squares stays comparable between rare experts and busy ones."""
    norms = np.sqrt((scores**2).sum(0))
    norms = np.where(norms > 0, norms, 1)
    unit, found, beaten = scores / norms, excess / norms, np.zeros(len(excess))
    for start in range(0, shuffles, AT_ONCE):
        signs = rng.choice([-1.0, 1.0], (min(AT_ONCE, shuffles - start), len(scores)))
        highest = (signs @ unit).max(1, initial=-np.inf)
        beaten += (highest[:, None] >= found - 1e-9).sum(0)
    return (1 + beaten) / (1 + shuffles)
