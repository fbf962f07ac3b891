"""Predictions of a scaling law beyond its runs: the largest budget and size held out, the
number of experts for a budget of training FLOPs, and the dense equivalents of sparse models."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.analysis.law_forms import FORMS, Array
from glam.analysis.scaling_law import Law, Runs, cells, check_grid, fit, interval, sizes
from glam.errors import UserError

BUDGETS = (0.25, 1.0, 4.0)  # of the largest budget of the runs
BAR = 0.9  # the least share of held-out cells inside their intervals of a law that is accepted


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Runs of one cell that was held out, against the law of the rest. The interval is that of
    their mean loss, noise of the runs included. The effects of their seeds, known from the rest,
    are subtracted from the measured loss."""

    active: float
    experts: int
    tokens: float
    num_runs: int
    measured: float
    predicted: float
    interval: tuple[float, float]

    @property
    def is_inside(self) -> bool:
        return self.interval[0] <= self.measured <= self.interval[1]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One form of the law, and its predictions of the cells held out, fitted without them."""

    law: Law
    left_out: list[HeldOut]

    @property
    def inside(self) -> int:
        return sum(one.is_inside for one in self.left_out)

    @property
    def is_accepted(self) -> bool:
        return bool(self.left_out) and self.inside >= BAR * len(self.left_out)

    @property
    def error(self) -> float:
        """Mean absolute difference of measured and predicted log loss; inf without predictions."""
        if not self.left_out:
            return np.inf
        return float(np.mean([abs(np.log(one.measured / one.predicted)) for one in self.left_out]))


@dataclass(frozen=True, kw_only=True)
class Best:
    """The model of the grid with the lowest predicted loss for `flops` of training. `between` is
    the 90 % interval of the best number of experts, `share` the share of the bootstrap samples that
    choose `experts`."""

    flops: float
    active: float
    experts: int
    tokens: float
    loss: float
    interval: tuple[float, float]
    between: tuple[int, int]
    share: float


@dataclass(frozen=True, kw_only=True)
class DenseEquivalent:
    """A dense model of `dense` active parameters has this model's loss after as many tokens, the
    most of the grid."""

    active: float
    experts: int
    dense: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Split:
    """`kept` runs are fitted to, the others are predicted; `words` say which."""

    kept: NDArray[np.bool_]
    words: str


def fitted(runs: Runs, *, floor: float | None = None) -> list[Fitted]:
    """Every form of the law, the one that predicts the cells held out best first; forms that the
    grid has too few cells for are left out. Raises UserError where it has too few for any."""
    split, found, refused = split_of(runs), list[Fitted](), list[UserError]()
    for form in FORMS:
        try:
            law = fit(runs, form, floor=floor)
        except UserError as error:
            refused.append(error)
            continue
        found.append(Fitted(law=law, left_out=held_out(runs, form, split=split, floor=floor)))
    if not found:
        raise refused[0]
    return sorted(found, key=lambda one: one.error)


def split_of(runs: Runs) -> Split:
    """All cells of the largest size and of the most tokens are held out; where the rest is too
    small a grid for a law, the largest size at the most tokens alone."""
    size, largest = sizes(runs), int(runs.budget.argmax())
    # The FLOPs of a router apart, all counts of experts of one size and tokens are one budget.
    of_size, of_tokens = size == size[largest], runs.tokens == runs.tokens[largest]
    both = Split(kept=~(of_size | of_tokens), words="the largest size and the most tokens")
    corner = Split(kept=~(of_size & of_tokens), words="the largest size at the most tokens")
    return both if _is_enough(runs.where(both.kept)) else corner


def _is_enough(runs: Runs) -> bool:
    try:
        for form in FORMS:
            check_grid(runs, form)
    except UserError:
        return False
    return True


def held_out(
    runs: Runs, form: str = "chinchilla", *, samples: int = 400, split: Split | None = None,
    floor: float | None = None,
) -> list[HeldOut]:  # fmt: skip
    """Every cell held out, smaller models and fewer experts and tokens first; empty where the rest
    does not suffice for a fit."""
    kept = (split or split_of(runs)).kept
    try:
        law = fit(runs.where(kept), form, samples=samples, floor=floor)
    except UserError:
        return []
    return predict_cells(law, runs.where(~kept))


def predict_cells(law: Law, runs: Runs) -> list[HeldOut]:
    """Every cell of `runs` against a law that was fitted without them."""
    random, index = np.random.default_rng(1), cells(runs)
    return [predict_held_out(law, runs.where(index == i), random) for i in np.unique(index)]


def predict_held_out(law: Law, runs: Runs, random: np.random.Generator) -> HeldOut:
    """Runs of one model and budget against a law that was fitted without them."""
    count = len(runs.loss)
    predicted, draws = law.predict(runs.active[:1], runs.experts[:1], runs.tokens[:1])
    chance = law.noise / np.sqrt(count) * random.standard_t(law.degrees_of_freedom, size=len(draws))
    known = [law.seed_effects.get(seed) for seed in runs.seed.tolist()]
    # Seeds of the fit have known effects. New seeds add the uncertainty of their own mean and of
    # the mean of the old ones.
    new = np.sqrt(1 + len(law.seed_effects) / count) if None in known else 0.0
    doubt = law.shift * new
    low, high = interval(draws[:, 0] * np.exp(chance + doubt - law.shift))
    effects: Array = np.array([effect or 0.0 for effect in known])
    return HeldOut(
        active=float(runs.active[0]),
        experts=int(runs.experts[0]),
        tokens=float(runs.tokens[0]),
        num_runs=count,
        measured=float(np.exp((np.log(runs.loss) - effects).mean())),
        predicted=float(predicted[0]),
        interval=(float(low), float(high)),
    )


def best_for_budgets(law: Law, runs: Runs) -> list[Best]:
    """For BUDGETS times the largest of the runs; tokens follow from a model's FLOPs per token."""
    _, kept = np.unique(np.stack([runs.active, runs.experts]), axis=1, return_index=True)
    models = runs.where(np.isin(np.arange(len(runs.loss)), kept))
    found: list[Best] = []
    for flops in float(runs.budget.max()) * np.array(BUDGETS):
        tokens = flops / (3 * models.flops)
        predicted, draws = law.predict(models.active, models.experts, tokens)
        best = int(predicted.argmin())
        low, high = interval(draws[:, best])
        experts = models.experts[draws.argmin(axis=1)]
        between = np.quantile(experts, [0.05, 0.95], method="nearest")
        found.append(
            Best(
                flops=float(flops),
                active=float(models.active[best]),
                experts=int(models.experts[best]),
                tokens=float(tokens[best]),
                loss=float(predicted[best]),
                interval=(float(low), float(high)),
                between=(int(between[0]), int(between[1])),
                share=float((experts == models.experts[best]).mean()),
            )
        )
    return found


def dense_equivalents(law: Law, runs: Runs) -> list[DenseEquivalent]:
    """The dense equivalent of every sparse model of the grid, smallest first."""
    models = sorted({(n, e) for n, e in zip(runs.active, runs.experts, strict=True) if e > 1})
    if not models:
        return []
    active, experts = np.array(models).T
    times, draws = law.multiplier(active, experts, np.full(len(active), runs.tokens.max()))
    low, high = interval(draws)
    return [
        DenseEquivalent(
            active=float(active[i]),
            experts=int(experts[i]),
            dense=float(active[i] * times[i]),
            interval=(float(active[i] * low[i]), float(active[i] * high[i])),
        )
        for i in range(len(models))
    ]
