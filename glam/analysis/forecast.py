"""Predictions of a scaling law beyond its runs: the largest budget held out, the number of experts
for a budget of training FLOPs, and the dense equivalents of sparse models."""

from dataclasses import dataclass

import numpy as np

from glam.analysis.scaling_law import FORMS, Array, Law, Runs, fit, interval, sizes
from glam.errors import UserError

BUDGETS = (0.25, 1.0, 4.0)  # of the largest budget of the runs


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Runs of one model at the largest budget, against the law of all smaller budgets. The interval
    is that of their mean loss, noise of the runs included. The effects of their seeds, known from
    the smaller budgets, are subtracted from the measured loss."""

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
    """One form of the law, and its predictions of the largest budget, fitted without it."""

    law: Law
    left_out: list[HeldOut]

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
    """A dense model of `dense` active parameters has this model's loss at equal tokens."""

    active: float
    experts: int
    dense: float
    interval: tuple[float, float]


def fitted(runs: Runs) -> list[Fitted]:
    """Every form of the law, the one that predicts the largest budget best first. Raises UserError
    where the grid is too small."""
    forms = [Fitted(law=fit(runs, form), left_out=held_out(runs, form)) for form in FORMS]
    return sorted(forms, key=lambda one: one.error)


def held_out(runs: Runs, form: str = "chinchilla", *, samples: int = 400) -> list[HeldOut]:
    """Every model of the largest budget, dense first; empty where the smaller budgets do not
    suffice for a fit."""
    # The FLOPs of a router apart, all counts of experts of one size and tokens are one budget.
    size, largest = sizes(runs), int(runs.budget.argmax())
    budget = (size == size[largest]) & (runs.tokens == runs.tokens[largest])
    try:
        law = fit(runs.where(~budget), form, samples=samples)
    except UserError:
        return []
    left_out = runs.where(budget)
    random = np.random.default_rng(1)
    counts: list[float] = np.unique(left_out.experts).tolist()
    return [predict_held_out(law, left_out.where(left_out.experts == e), random) for e in counts]


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
    times, draws = law.multiplier(active, experts)
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
