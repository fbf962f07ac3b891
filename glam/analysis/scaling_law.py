"""A joint scaling law of held-out loss in active parameters N, experts E and training tokens D.

    L(N, E, D) = e + ((a (N m(E))^-alpha)^p + (b D^-beta)^p)^(1/p)
    log m = (gamma + c log(N / N0)) log Ê,   1 / Ê = 1 / (E - 1 + 1 / (1 - x)) + x

With E = 1, Ê = m = 1. There are two forms, each with one constant fixed. `chinchilla`, p = 1: the
sum of a term in size, a term in tokens and a floor (Hoffmann et al. 2022, section 3.3). `kaplan`,
e = 0: no floor, and the larger term dominates, so that the effect of size grows with the tokens
(Kaplan et al. 2020, equation 1.5, where p is 1 / beta).

Ê is the saturating number of experts of Clark et al. 2022 (section 5) with E_start = 1, which makes
m(1) = 1, and E_max = 1 / x. x = 0 means no saturation: a bound that a fit can reach, where E_max
would diverge. m is their effective parameter count as a multiplier, c their interaction of log N
and log Ê. The fit uses the logarithm of the terms of a and b at N0 and D0, the geometric means of
the data, since at N = D = 1 they are strongly correlated with the exponents; and the logarithm
of p.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.errors import UserError

Array = NDArray[np.float64]

NAMES = ("e", "log_a", "alpha", "log_b", "beta", "gamma", "x", "c", "log_p")
LOW = np.array([0.0, -12.0, 0.01, -12.0, 0.01, -1.0, 0.0, -0.5, 0.0])
HIGH = np.array([np.inf, 4.0, 2.0, 4.0, 2.0, 2.0, 0.5, 0.5, 3.5])
FORMS = {"chinchilla": "log_p", "kaplan": "e"}  # and the constant that each holds at 0
CONFIDENCE = 0.9
FEWEST = 3  # sizes, and counts of tokens: fewer cannot tell a power law from its floor
HUBER = 1.345  # in standard deviations: 95 % as efficient as least squares on Gaussian noise
MOST_CONDITION = 1e4
MOST_STEPS = 60


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
    """A fitted law. `draws` holds the constants of every bootstrap sample, shape (samples, 9).
    Constants that the form fixes, or that the grid does not determine, are not `free`."""

    form: str
    constants: Array
    draws: Array
    free: NDArray[np.bool_]
    centre: tuple[float, float]  # N0, D0
    residuals: Array  # log measured loss - log fitted loss, what the run's seed adds left out
    noise: float  # standard deviation of a cell's residual, times the root of its runs
    degrees_of_freedom: int  # cells beyond the constants: what the noise is known from
    shift: Array  # the part of every bootstrap sample that other seeds than these would add
    seed_effects: dict[int, float]  # of the log loss, their mean 0
    condition: float  # of the Jacobian with columns of unit length

    def predict(self, active: Array, experts: Array, tokens: Array) -> tuple[Array, Array]:
        """Loss, shape (points), and its samples, shape (samples, points)."""
        place = _place(active, experts, tokens, self.centre)
        return losses(self.constants[None], place)[0][0], losses(self.draws, place)[0]

    def multiplier(self, active: Array, experts: Array) -> tuple[Array, Array]:
        """m(E): a sparse model of N active parameters has, at equal tokens, the loss of a dense one
        of N m(E). Shapes as in `predict`."""
        place = _place(active, experts, np.ones_like(active), self.centre)
        return np.exp(_log_multiplier(self.constants[None], place)[0][0]), np.exp(
            _log_multiplier(self.draws, place)[0]
        )

    def warnings(self) -> list[str]:
        """A sentence for each constant that the runs do not determine."""
        found: list[str] = []
        low, high = interval(self.draws)
        for i, name in enumerate(NAMES):
            if not self.free[i]:
                if name in ("gamma", "x", "c"):
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


def fit(runs: Runs, form: str = "chinchilla", *, samples: int = 400, seed: int = 0) -> Law:
    """The law of that form with the least Huber loss of log residuals, from several starts, and a
    bootstrap of it. Raises UserError where the grid is too small."""
    free = _free(runs, form)
    random = np.random.default_rng(seed)
    centre = (float(np.exp(np.log(runs.active).mean())), float(np.exp(np.log(runs.tokens).mean())))
    place = _place(runs.active, runs.experts, runs.tokens, centre)
    high = HIGH.copy()
    high[0] = float(runs.loss.min())
    starts = _starts(runs, free)
    effects, of_seed, spread = _seed_effects(runs)
    # Cells that lack a seed are compared as if they had it.
    target = np.log(runs.loss) - effects[of_seed]
    first, costs = _minimise(starts, place, target[None], free, high, np.inf)
    delta = HUBER * float(np.sqrt(2 * costs.min() / (len(target) - free.sum()))) + 1e-12
    found, costs = _minimise(first, place, target[None], free, high, delta)
    best = found[int(costs.argmin())]
    fitted, slopes = losses(best[None], place)
    residuals = target - np.log(fitted[0])
    columns = (slopes[0] / fitted[0][:, None])[:, free]
    drawn, noise, degrees_of_freedom = _resampled(residuals, columns, cells(runs), samples, random)
    many = np.repeat(best[None], samples, axis=0)
    draws, _ = _minimise(many, place, np.log(fitted) + drawn, free, high, delta)
    # Student's t over the seeds: three of them resampled would make it too small.
    shift = np.zeros(samples)
    if len(effects) > 1:
        width = spread / np.sqrt(len(effects))
        shift = width * random.standard_t(len(effects) - 1, size=samples)
    draws[:, 0] *= np.exp(shift)
    draws[:, [1, 3]] += shift[:, None]
    lengths = np.linalg.norm(columns, axis=0)
    condition = float(np.linalg.cond(columns / np.where(lengths > 0, lengths, 1)))
    known = dict(zip(np.unique(runs.seed).tolist(), effects.tolist(), strict=True))
    return Law(
        form=form, constants=best, draws=draws, free=free, centre=centre, residuals=residuals,
        noise=noise, degrees_of_freedom=degrees_of_freedom,
        shift=shift, seed_effects=known, condition=condition,
    )  # fmt: skip


def _free(runs: Runs, form: str) -> NDArray[np.bool_]:
    """Which constants are fitted: those of the form, saturation only with four numbers of experts,
    the interaction only with three sizes that have several."""
    size, counts = sizes(runs), np.unique(runs.experts)
    tokens = np.unique(runs.tokens)
    num_sizes, cells = int(size.max()) + 1, {*zip(size, runs.experts, runs.tokens, strict=True)}
    routed = sum(len(np.unique(runs.experts[size == one])) > 1 for one in range(num_sizes))
    sparse = len(counts) > 1
    free = np.array([True] * 5 + [sparse, len(counts) >= 4, routed >= 3, True])
    free[NAMES.index(FORMS[form])] = False
    if num_sizes < FEWEST or len(tokens) < FEWEST or len(cells) < int(free.sum()) + 2:
        raise UserError(
            f"a scaling law needs {FEWEST} sizes, {FEWEST} counts of tokens and "
            f"{int(free.sum()) + 2} cells; the study has {num_sizes}, {len(tokens)} and "
            f"{len(cells)}: sweep more"
        )
    return free


def sizes(runs: Runs) -> NDArray[np.int64]:
    """The rank of every run's size. Models whose active parameters differ by less than a tenth are
    one size: the router adds a little to those of the dense twin."""
    found, index = np.unique(runs.active, return_inverse=True)
    rank = np.concatenate([[0], np.cumsum(np.diff(np.log(found)) > 0.1)])
    return rank[index]


def _place(
    active: Array, experts: Array, tokens: Array, centre: tuple[float, float]
) -> tuple[Array, Array, Array]:
    return np.log(active / centre[0]), np.asarray(experts, float), np.log(tokens / centre[1])


def _log_multiplier(
    constants: Array, place: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """log m and log Ê, and the slope of log Ê in x; each of shape (laws, points)."""
    n, experts, _ = place
    x = constants[:, 6:7]
    count = experts - 1 + 1 / (1 - x)
    inverse = 1 / count + x
    log_count = -np.log(inverse)
    slope = -(1 - 1 / (count * (1 - x)) ** 2) / inverse
    return (constants[:, 5:6] + constants[:, 7:8] * n) * log_count, log_count, slope


def losses(constants: Array, place: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    """Losses of many laws, shape (laws, points), and their slopes in the constants, shape
    (laws, points, 9)."""
    n, _, d = place
    log_m, log_count, slope = _log_multiplier(constants, place)
    floor, log_a, alpha, log_b, beta, gamma, _, c, log_p = (constants[:, i, None] for i in range(9))
    p = np.exp(log_p)
    log_size, log_data = log_a - alpha * (n + log_m), log_b - beta * d
    log_both = np.logaddexp(p * log_size, p * log_data) / p
    both = np.exp(log_both)
    of_size = np.exp(p * (log_size - log_both))  # its share of the sum of powers
    size, data = both * of_size, both * (1 - of_size)  # slopes in log_a and log_b
    by_m = -alpha * size
    slopes = [
        np.ones_like(size), size, -size * (n + log_m), data, -data * d,
        by_m * log_count, by_m * (gamma + c * n) * slope, by_m * n * log_count,
        size * log_size + data * log_data - both * log_both,
    ]  # fmt: skip
    return floor + both, np.stack(slopes, axis=-1)


def _starts(runs: Runs, free: NDArray[np.bool_]) -> Array:
    """A grid of starts: the floor or p, both exponents, the experts."""
    low = float(runs.loss.min())
    spread = float(runs.loss.mean())
    floors = (0.3, 0.6, 0.85) if free[0] else (0.0,)
    powers = (0.5, 1.0, 1.5) if free[8] else (0.0,)
    starts = [
        [share * low, np.log((spread - share * low) / 2), alpha, np.log((spread - share * low) / 2),
         beta, 0.3, x, 0.0, log_p]
        for share in floors for log_p in powers for alpha in (0.2, 0.5)
        for beta in (0.2, 0.5) for x in (0.002, 0.03)
    ]  # fmt: skip
    return np.where(free, np.array(starts, dtype=np.float64), 0.0)


def _huber(residuals: Array, delta: float) -> Array:
    size = np.abs(residuals)
    if not np.isfinite(delta):
        return (size**2 / 2).sum(-1)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)).sum(-1)


def _minimise(
    starts: Array,
    place: tuple[Array, Array, Array],
    target: Array,
    free: NDArray[np.bool_],
    high: Array,
    delta: float,
) -> tuple[Array, Array]:
    """Levenberg and Marquardt's method with Huber's weights, projected on the bounds, for all
    starts at once: a bootstrap is one call. Returns the constants and the costs."""
    now, eye = starts.copy(), np.eye(len(free))
    target = np.broadcast_to(target, (len(now), target.shape[-1]))
    damping = np.full(len(now), 1e-3)
    columns, residuals = _linear(now, place, target)
    cost = _huber(residuals, delta)
    moving = np.arange(len(now))  # those that are not at their minimum yet
    for _ in range(MOST_STEPS):
        here, left, along = now[moving], residuals[moving], columns[moving]
        weighted = along * np.minimum(1, delta / np.maximum(np.abs(left), 1e-300))[..., None]
        gradient = (weighted * left[..., None]).sum(axis=1)
        stuck = ~free | ((here <= LOW) & (gradient < 0)) | ((here >= high) & (gradient > 0))
        curvature = np.matmul(weighted.transpose(0, 2, 1), along)
        keep = (~stuck)[:, :, None] & (~stuck)[:, None, :]
        curvature = np.where(keep, curvature, 0) + stuck[:, :, None] * eye
        ridge = damping[moving, None] * np.einsum("bpp->bp", curvature) + 1e-12
        damped = curvature + ridge[:, :, None] * eye
        right: Array = np.where(stuck, 0.0, gradient)
        step: Array = np.asarray(np.linalg.solve(damped, right[..., None]), np.float64)[..., 0]
        tried = np.where(free, np.clip(here + np.clip(step, -1, 1), LOW, high), 0.0)
        new_columns, new_residuals = _linear(tried, place, target[moving])
        new_cost = _huber(new_residuals, delta)
        better = new_cost < cost[moving]
        gain = np.where(better, (cost[moving] - new_cost) / (cost[moving] + 1e-300), 0)
        taken = moving[better]
        now[taken], cost[taken] = tried[better], new_cost[better]
        columns[taken], residuals[taken] = new_columns[better], new_residuals[better]
        damping[moving] = np.clip(damping[moving] * np.where(better, 0.2, 4), 1e-9, 1e6)
        moving = moving[~((gain < 1e-7) & (better | (damping[moving] > 1e3)))]
        if not len(moving):
            break
    return now, cost


def _linear(
    constants: Array, place: tuple[Array, Array, Array], target: Array
) -> tuple[Array, Array]:
    """Slopes of the log losses in the constants, and `target` minus the log losses."""
    fitted, slopes = losses(constants, place)
    return slopes / fitted[..., None], target - np.log(fitted)


def cells(runs: Runs) -> NDArray[np.int64]:
    """The index of every run's cell: runs of a cell have model and tokens in common, and differ in
    their seeds."""
    places = np.stack([runs.active, runs.experts, runs.tokens], axis=1)
    return np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)


def _seed_effects(runs: Runs) -> tuple[Array, NDArray[np.int64], float]:
    """The effect of every seed on the log loss, by least squares on a cell's effect plus a seed's;
    the index of every run's seed; and the standard deviation over the seeds beyond chance. Seeds
    that are linked by shared cells have the mean 0; effects of others are not identified."""
    names, index = np.unique(runs.seed, return_inverse=True)
    cell, rows, count = cells(runs), np.arange(len(index)), len(names)
    if count == 1:
        return np.zeros(1), index, 0.0
    group = _joined(index, cell)
    design = np.zeros((len(index) + int(group.max()) + 1, count + int(cell.max()) + 1))
    design[rows, index] = design[rows, count + cell] = 1
    design[len(index) + group, np.arange(count)] = 1  # the parts of such seeds have the sum 0
    target = np.append(np.log(runs.loss), np.zeros(int(group.max()) + 1))
    parts = np.asarray(np.linalg.lstsq(design, target, rcond=None)[0], np.float64)
    effects = parts[:count]
    degrees_of_freedom = max(len(design) - design.shape[1], 1)
    chance = float(((target - design @ parts) ** 2).sum()) / degrees_of_freedom * count / len(index)
    return effects, index, float(np.sqrt(max(float(effects.var(ddof=1)) - chance, 0.0)))


def _joined(seed: NDArray[np.int64], cell: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group of every seed: seeds that share a cell, directly or through others."""
    has = np.zeros((int(seed.max()) + 1, int(cell.max()) + 1), dtype=np.bool_)
    has[seed, cell] = True
    joined = has @ has.T
    for _ in range(len(joined)):
        joined = joined @ joined
    return np.unique(joined.argmax(axis=1), return_inverse=True)[1].reshape(-1)


def _resampled(
    residuals: Array,
    columns: Array,
    cell: NDArray[np.int64],
    samples: int,
    random: np.random.Generator,
) -> tuple[Array, float, int]:
    """Noise for the bootstrap, shape (samples, runs); its standard deviation for a cell of one run;
    and the degrees of freedom. Whole cells are drawn with replacement: where the law does not quite
    hold, all seeds of a cell deviate together, which noise of single runs would average out. A
    cell's residual is divided by one minus its leverage, as in the jackknife (HC3; by its root
    alone, intervals are too short in a grid of dozens of cells). The scale of each sample varies
    as an estimate from that many degrees of freedom does."""
    num_runs = np.bincount(cell)
    degrees_of_freedom = len(num_runs) - columns.shape[1]
    leverage = np.bincount(cell, (np.linalg.qr(columns)[0] ** 2).sum(axis=1))
    means = np.asarray(np.bincount(cell, residuals) / np.sqrt(num_runs), np.float64)
    pool = means / np.clip(1 - leverage, 0.1, 1)
    pool -= pool.mean()
    scale = np.sqrt(degrees_of_freedom / random.chisquare(degrees_of_freedom, size=(samples, 1)))
    drawn = scale * np.asarray(random.choice(pool, size=(samples, len(pool))), np.float64)
    return (drawn / np.sqrt(num_runs))[:, cell], float(pool.std()), degrees_of_freedom
