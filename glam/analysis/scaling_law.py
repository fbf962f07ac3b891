"""A joint scaling law of held-out loss in active parameters, experts and training tokens, fitted
to runs, with intervals by a wild bootstrap by configuration. Its forms stand in `law_forms`.

An asymptote that the runs do not determine is pinned: a floor at what no model goes below, the most
experts that help at infinity; and the law says which.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.analysis.law_forms import FORMS, HIGH, LOW, NAMES, Array, dense_size, floor_of, place
from glam.analysis.law_forms import losses as losses_at
from glam.analysis.law_minimum import minimise, starts
from glam.analysis.seed_effects import run_noise, seed_effects
from glam.analysis.wild_bootstrap import wild
from glam.errors import UserError

CONFIDENCE = 0.9
FEWEST = 3  # sizes, and counts of tokens: fewer cannot tell a power law from its floor
HUBER = 1.345  # in standard deviations: 95 % as efficient as least squares on Gaussian noise
MOST_CONDITION = 1e4
SAMPLES_TO_PIN = 100  # of the bootstrap that tells whether an asymptote is determined
SPARSE = ("gamma", "x", "c", "omega", "zeta")  # constants of experts
ASYMPTOTES = {"e": "the floor", "x": "1 / E_max"}


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Finished runs, one entry each: active parameters, experts, training tokens, held-out loss
    in nats per token, forward FLOPs per token, and seed."""

    active: Array
    experts: Array
    tokens: Array
    loss: Array
    flops: Array
    seed: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> "Runs":
        return Runs(**{name: values[chosen] for name, values in vars(self).items()})

    @property
    def budget(self) -> Array:
        """Training FLOPs: forward and twice that backward."""
        return 3 * self.flops * self.tokens


@dataclass(frozen=True, kw_only=True)
class Law:
    """A fitted law. `draws` holds the constants of every bootstrap sample, shape (samples, 11).
    Constants that the form fixes, or that the grid does not determine, are not `free`."""

    form: str
    constants: Array
    draws: Array
    free: NDArray[np.bool_]
    pinned: dict[str, float]  # asymptotes that the grid does not determine
    centre: tuple[float, float]  # N0, D0
    residuals: Array  # log measured loss - log fitted loss, what the run's seed adds left out
    noise: float  # standard deviation of a cell's residual, times the root of its runs
    run_noise: float  # the part of it that runs of one cell differ by
    degrees_of_freedom: int  # cells beyond the constants: what the noise is known from
    shift: Array  # the part of every bootstrap sample that other seeds than these would add
    seed_effects: dict[int, float]  # of the log loss, their mean 0
    condition: float  # of the Jacobian with columns of unit length

    def predict(self, active: Array, experts: Array, tokens: Array) -> tuple[Array, Array]:
        """Loss, shape (points), and its samples, shape (samples, points)."""
        at = place(active, experts, tokens, self.centre, self.form)
        return losses_at(self.constants[None], at)[0][0], losses_at(self.draws, at)[0]

    def multiplier(self, active: Array, experts: Array, tokens: Array) -> tuple[Array, Array]:
        """A sparse model of N active parameters has, after as many tokens, the loss of a dense one
        of N times this. Shapes as in `predict`; inf where no dense model has it."""
        at = place(active, experts, tokens, self.centre, self.form)
        best, draws = (dense_size(one, at) for one in (self.constants[None], self.draws))
        return np.exp(best[0] - at.size), np.exp(draws - at.size)

    def warnings(self) -> list[str]:
        """A sentence for each constant that the runs do not determine."""
        by_form = ["e"] if FORMS[self.form].pinned else []
        found = [
            f"{name} ({ASYMPTOTES[name]}) is pinned at {value:.3g}: "
            + ("this form does not fit it" if name in by_form else "the grid does not determine it")
            for name, value in self.pinned.items()
        ]
        low, high = interval(self.draws)
        for i, name in enumerate(NAMES):
            if not self.free[i]:
                if name in SPARSE and name not in (*FORMS[self.form].held, *self.pinned):
                    found.append(f"{name} is held at 0: the grid has too few values to fit it")
            elif low[i] <= LOW[i] + 1e-9 or high[i] >= HIGH[i] - 1e-9:
                found.append(f"{name} is not identified: its interval reaches its bound")
        if self.condition > MOST_CONDITION:
            how = f"number {self.condition:.1e}" if np.isfinite(self.condition) else "singular"
            found.append(
                f"the constants are not identified one by one (condition {how}): trust the "
                f"predictions, not the constants"
            )
        return found


def interval(draws: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Percentile interval over the first axis."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def fit(
    runs: Runs,
    form: str = "chinchilla",
    *,
    samples: int = 400,
    seed: int = 0,
    floor: float | None = None,
) -> Law:
    """The law of that form with the least Huber loss of log residuals, from several starts, and a
    bootstrap of it. A floor that is pinned is `floor` nats per token, by default that of the
    embedded corpora. Raises UserError where the grid is too small."""
    free = check_grid(runs, form)
    floor = min(floor_of() if floor is None else floor, 0.9 * float(runs.loss.min()))
    pinned = {"e": floor} if FORMS[form].pinned else {}
    few = min(samples, SAMPLES_TO_PIN)
    while unknown := _undetermined(_fit(runs, form, free, pinned, few, seed)):
        for name in unknown:
            free[NAMES.index(name)] = False
            pinned[name] = floor if name == "e" else 0.0
    return _fit(runs, form, free, pinned, samples, seed)


def _undetermined(law: Law) -> list[str]:
    """Fitted asymptotes whose interval reaches a bound or is wider than their estimate."""
    low, high = interval(law.draws)
    found: list[str] = []
    for name in ASYMPTOTES:
        i = NAMES.index(name)
        at_bound = low[i] <= LOW[i] + 1e-9 or high[i] >= HIGH[i] - 1e-9
        if law.free[i] and (at_bound or high[i] - low[i] > law.constants[i]):
            found.append(name)
    return found


class _Cells(NamedTuple):
    """Runs of a cell as one: their mean log loss, the effects of their seeds left out."""

    runs: Runs  # the first of every cell
    target: Array
    weight: Array  # the root of the number of runs, over that of the mean cell


def _fit(
    runs: Runs, form: str, free: NDArray[np.bool_], pinned: dict[str, float], samples: int,
    seed: int,
) -> Law:  # fmt: skip
    random = np.random.default_rng(seed)
    index = cells(runs)
    effects, of_seed, spread = seed_effects(np.log(runs.loss), runs.seed, index)
    log_loss = np.log(runs.loss) - effects[of_seed]
    group, count = _grouped(runs, log_loss, index), np.bincount(index)
    centre = (float(np.exp(np.log(runs.active).mean())), float(np.exp(np.log(runs.tokens).mean())))
    one = group.runs
    at = place(one.active, one.experts, one.tokens, centre, form)
    high = HIGH.copy()
    high[0] = float(runs.loss.min())
    begin = starts(high[0], float(runs.loss.mean()), free, pinned.get("e", 0.0))
    first, costs = minimise(begin, at, group.target[None], group.weight, free, high, np.inf)
    left = max(len(group.target) - int(free.sum()), 1)
    delta = HUBER * float(np.sqrt(2 * costs.min() / left)) + 1e-12
    found, costs = minimise(first, at, group.target[None], group.weight, free, high, delta)
    best = found[int(costs.argmin())]
    fitted, slopes = losses_at(best[None], at)
    columns = (slopes[0] / fitted[0][:, None])[:, free]
    residuals = group.target - np.log(fitted[0])
    drawn = wild(residuals, columns, group.weight, samples, random)
    many = np.repeat(best[None], samples, axis=0)
    again = np.log(fitted) + drawn.noise
    draws, _ = minimise(many, at, again, group.weight, free, high, delta)
    shift = _shift(spread, len(effects), samples, random)
    _add(draws, shift, "e" in pinned)
    known = dict(zip(np.unique(runs.seed).tolist(), effects.tolist(), strict=True))
    return Law(
        form=form, constants=best, draws=draws, free=free.copy(), pinned=dict(pinned),
        centre=centre, residuals=log_loss - np.log(fitted[0])[index],
        noise=drawn.spread * float(np.sqrt(count.mean())),
        run_noise=run_noise(np.log(runs.loss), runs.seed, index),
        degrees_of_freedom=drawn.degrees_of_freedom, shift=shift, seed_effects=known,
        condition=_condition(columns),
    )  # fmt: skip


def _grouped(runs: Runs, log_loss: Array, index: NDArray[np.int64]) -> _Cells:
    _, first, count = np.unique(index, return_index=True, return_counts=True)
    chosen = np.zeros(len(index), dtype=np.bool_)
    chosen[first] = True
    order = np.argsort(first)  # `where` keeps the order of the runs, cells have another
    back = np.argsort(order)
    one = Runs(**{name: values[back] for name, values in vars(runs.where(chosen)).items()})
    target = np.asarray(np.bincount(index, log_loss) / count, np.float64)
    return _Cells(one, target, np.sqrt(count / count.mean()))


def _shift(spread: float, seeds: int, samples: int, random: np.random.Generator) -> Array:
    """Student's t over the seeds: three of them resampled would make it too small."""
    if seeds < 2:
        return np.zeros(samples)
    return spread / np.sqrt(seeds) * random.standard_t(seeds - 1, size=samples)


def _add(draws: Array, shift: Array, is_pinned: bool) -> None:
    """All losses of a draw times e^shift; a floor that is pinned is not the seeds' to move."""
    if not is_pinned:
        draws[:, 0] *= np.exp(shift)
    draws[:, [1, 3]] += shift[:, None]


def _condition(columns: Array) -> float:
    lengths = np.linalg.norm(columns, axis=0)
    return float(np.linalg.cond(columns / np.where(lengths > 0, lengths, 1)))


def check_grid(runs: Runs, form: str) -> NDArray[np.bool_]:
    """Which constants are fitted: those of the form, saturation only with four numbers of experts,
    interactions only with three sizes that have several. Raises UserError where the grid is too
    small."""
    if not len(runs.loss):
        raise UserError("a scaling law needs runs; the study has none that is done")
    size, counts = sizes(runs), np.unique(runs.experts)
    tokens = np.unique(runs.tokens)
    num_sizes, found = int(size.max()) + 1, {*zip(size, runs.experts, runs.tokens, strict=True)}
    routed = sum(len(np.unique(runs.experts[size == one])) > 1 for one in range(num_sizes))
    sparse = len(counts) > 1
    known = {"x": len(counts) >= 4, "c": routed >= 3, "zeta": sparse and routed >= 3}
    free = np.array([known.get(name, sparse or name not in SPARSE) for name in NAMES])
    for name in FORMS[form].held:
        free[NAMES.index(name)] = False
    free[0] &= not FORMS[form].pinned
    if num_sizes < FEWEST or len(tokens) < FEWEST or len(found) < int(free.sum()) + 2:
        raise UserError(
            f"a scaling law needs {FEWEST} sizes, {FEWEST} counts of tokens and "
            f"{int(free.sum()) + 2} cells; the study has {num_sizes}, {len(tokens)} and "
            f"{len(found)}: sweep more"
        )
    return free


def sizes(runs: Runs) -> NDArray[np.int64]:
    """The rank of every run's size. Models whose active parameters differ by less than a tenth are
    one size: the router adds a little to those of the dense twin."""
    found, index = np.unique(runs.active, return_inverse=True)
    rank = np.concatenate([[0], np.cumsum(np.diff(np.log(found)) > 0.1)])
    return rank[index]


def cells(runs: Runs) -> NDArray[np.int64]:
    """The index of every run's cell: runs of a cell have model and tokens in common, and differ in
    their seeds."""
    places = np.stack([runs.active, runs.experts, runs.tokens], axis=1)
    return np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)
