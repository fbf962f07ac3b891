"""What experts bring at equal FLOPs, from the cells of a grid and no law: the lead over the dense
twin of the same size, tokens and seed, and the best number of experts of each budget.

A cell has few seeds, so that the noise of a paired difference is pooled: one standard deviation for
all cells of a grid, known from as many degrees of freedom as they have seeds beyond their means.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glam.analysis.law_forms import Array
from glam.analysis.scaling_law import CONFIDENCE, Runs, sizes
from glam.intervals import around

DENSE = 1


@dataclass(frozen=True, kw_only=True)
class Lead:
    """Loss of the dense twin minus that of `experts`, nats per token: its mean over the paired
    seeds, and its interval (None where no cell has two seeds)."""

    active: float  # of the dense twin
    experts: int
    tokens: float
    paired: tuple[float, ...]  # one difference a seed
    interval: tuple[float, float] | None

    @property
    def mean(self) -> float:
        return float(np.mean(self.paired))

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / self.active


@dataclass(frozen=True, kw_only=True)
class BestOfBudget:
    """The number of experts with the lowest mean loss at one size and number of tokens. `rivals`
    are those whose paired difference to it has an interval that holds 0, itself among them."""

    active: float
    tokens: float
    flops: float  # of the dense twin's training
    experts: int
    rivals: tuple[int, ...]
    lead: Lead | None  # None where the dense twin is best


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """Of one paired difference, pooled."""

    spread: float
    freedom: int

    def interval(self, values: Array, confidence: float) -> tuple[float, float] | None:
        if self.freedom < 1:
            return None
        error = self.spread / float(np.sqrt(len(values)))
        return around(float(values.mean()), error, self.freedom, confidence)


def leads(runs: Runs, *, confidence: float = CONFIDENCE) -> list[Lead]:
    """Of every sparse model over its dense twin, smaller models and fewer tokens and experts first;
    cells without a pair are left out."""
    found = list(_differences(runs, DENSE))
    noise = _pooled([values for *_, values in found])
    return [
        Lead(
            active=dense, experts=experts, tokens=tokens, paired=tuple(values.tolist()),
            interval=noise.interval(values, confidence),
        )
        for dense, experts, tokens, values in found
    ]  # fmt: skip


def best_of_budgets(runs: Runs, *, confidence: float = CONFIDENCE) -> list[BestOfBudget]:
    """For every size and number of tokens that has a dense twin and another number of experts."""
    ahead = {(one.active, one.tokens, one.experts): one for one in leads(runs)}
    noise = _pooled([values for *_, values in _differences(runs, DENSE)])
    found: list[BestOfBudget] = []
    for part in _budgets(runs):
        counts: list[int] = np.unique(part.experts).astype(int).tolist()
        if DENSE not in counts or len(counts) < 2:
            continue
        best = min(counts, key=lambda count: float(part.loss[part.experts == count].mean()))
        others = _differences(part, best)
        near = [
            count
            for _, count, _, values in others
            if _holds_zero(noise.interval(values, confidence))
        ]
        dense = part.where(part.experts == DENSE)
        where = float(dense.active[0]), float(dense.tokens[0])
        found.append(
            BestOfBudget(
                active=where[0], tokens=where[1], flops=float(dense.budget[0]), experts=best,
                rivals=tuple(sorted({best, *near})), lead=ahead.get((*where, best)),
            )
        )  # fmt: skip
    return found


def _holds_zero(interval: tuple[float, float] | None) -> bool:
    return interval is None or interval[0] <= 0 <= interval[1]


def _budgets(runs: Runs) -> Iterator[Runs]:
    """Runs of one size and number of tokens, whose FLOPs differ by those of the router alone."""
    size = sizes(runs)
    for rank in np.unique(size):
        for tokens in np.unique(runs.tokens[size == rank]):
            yield runs.where((size == rank) & (runs.tokens == tokens))


def _differences(runs: Runs, reference: int) -> Iterator[tuple[float, int, float, Array]]:
    """For every other number of experts: active parameters of the reference, experts, tokens, and
    the losses of the reference minus theirs, by seed."""
    for part in _budgets(runs):
        base = part.where(part.experts == reference)
        against = dict(zip(base.seed.tolist(), base.loss.tolist(), strict=True))
        for count in np.unique(part.experts[part.experts != reference]):
            mine = part.where(part.experts == count)
            pairs = [
                against[seed] - loss
                for seed, loss in zip(mine.seed.tolist(), mine.loss.tolist(), strict=True)
                if seed in against
            ]
            if pairs:
                yield float(base.active[0]), int(count), float(part.tokens[0]), np.array(pairs)


def _pooled(differences: list[Array]) -> _Noise:
    freedom = sum(len(values) - 1 for values in differences)
    left = sum(float(((values - values.mean()) ** 2).sum()) for values in differences)
    return _Noise(spread=float(np.sqrt(left / freedom)) if freedom else 0.0, freedom=freedom)
