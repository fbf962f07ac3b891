"""A joint scaling law of held-out loss in active parameters N, experts E and training tokens D.

    L(N, E, D) = e + a (N m(E))^-alpha + b D^-beta,   log m = (gamma + c log(N / N0)) log Ê
    1 / Ê = 1 / (E - 1 + 1 / (1 - x)) + x

With E = 1, Ê = m = 1 and the law is Chinchilla's (Hoffmann et al. 2022, section 3.3). Ê is the
saturating count of experts of Clark et al. 2022 (section 5) with E_start = 1, which the dense
edge asks for, and E_max = 1 / x; x = 0 is no saturation, a bound that a fit can reach, where E_max
would run away to infinity. m is their effective parameter count as a multiplier, c their
interaction of log N and log Ê. a and b are held as the logarithm of their terms at N0 and D0, the
geometric means of the data: at N = D = 1 they would be all but a function of the exponents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.errors import UserError

Array = NDArray[np.float64]

NAMES = ("e", "log_a", "alpha", "log_b", "beta", "gamma", "x", "c")
LOW = np.array([0.0, -12.0, 0.01, -12.0, 0.01, -1.0, 0.0, -0.5])
HIGH = np.array([np.inf, 4.0, 2.0, 4.0, 2.0, 2.0, 0.5, 0.5])
CONFIDENCE = 0.9
FEWEST = 3  # sizes, and counts of tokens: fewer cannot tell a power law from its floor
HUBER = 1.345  # in standard deviations: 95 % as efficient as least squares on Gaussian noise
MOST_CONDITION = 1e4
MOST_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Finished runs, an entry each: active parameters, experts, training tokens, held-out loss
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
    """A fitted law. `draws` holds the constants of every bootstrap sample, shape (samples, 8);
    constants that the grid cannot tell are held at 0 and are not `free`."""

    constants: Array
    draws: Array
    free: NDArray[np.bool_]
    centre: tuple[float, float]  # N0, D0
    residuals: Array  # log measured loss - log fitted loss
    noise: float  # standard deviation of the residuals
    condition: float  # of the Jacobian with columns of unit length

    def predict(self, active: Array, experts: Array, tokens: Array) -> tuple[Array, Array]:
        """Loss, shape (points), and its samples, shape (samples, points)."""
        place = _place(active, experts, tokens, self.centre)
        return losses(self.constants[None], place)[0][0], losses(self.draws, place)[0]

    def multiplier(self, active: Array, experts: Array) -> tuple[Array, Array]:
        """m(E): a sparse model of N active parameters is worth a dense one of N m(E) at equal
        tokens. Shapes as in `predict`."""
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
            found.append(
                f"the constants are not identified one by one (condition number "
                f"{self.condition:.1e}): trust the predictions, not the constants"
            )
        return found


def interval(draws: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Percentile interval over the first axis."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def fit(runs: Runs, *, samples: int = 400, seed: int = 0) -> Law:
    """The law with the least Huber loss of log residuals, from several starts, and a bootstrap of
    it. Raises UserError where the grid is too small."""
    free = _free(runs)
    centre = (float(np.exp(np.log(runs.active).mean())), float(np.exp(np.log(runs.tokens).mean())))
    place = _place(runs.active, runs.experts, runs.tokens, centre)
    target = np.log(runs.loss)
    high = HIGH.copy()
    high[0] = float(runs.loss.min())
    starts = _starts(runs, free)
    spare = max(len(target) - int(free.sum()), 1)
    first = _minimise(starts, place, target[None], free, high, np.inf)
    scale = float(np.sqrt(2 * first[1].min() / spare)) + 1e-12
    found, cost = _minimise(first[0], place, target[None], free, high, HUBER * scale)
    best = found[int(cost.argmin())]
    fitted, slopes = losses(best[None], place)
    residuals = target - np.log(fitted[0])
    drawn = _resampled(residuals, runs.seed, spare, samples, np.random.default_rng(seed))
    draws, _ = _minimise(
        np.repeat(best[None], samples, axis=0),
        place, np.log(fitted) + drawn, free, high, HUBER * scale,
    )  # fmt: skip
    columns = (slopes[0] / fitted[0][:, None])[:, free]
    lengths = np.linalg.norm(columns, axis=0)
    condition = float(np.linalg.cond(columns / np.where(lengths > 0, lengths, 1)))
    return Law(
        constants=best, draws=draws, free=free, centre=centre, residuals=residuals,
        noise=float(np.sqrt((residuals**2).sum() / spare)), condition=condition,
    )  # fmt: skip


def _free(runs: Runs) -> NDArray[np.bool_]:
    """Which constants the grid can tell: saturation needs four counts of experts, the interaction
    three sizes that have several."""
    size, counts = sizes(runs), np.unique(runs.experts)
    tokens = np.unique(runs.tokens)
    num_sizes, cells = int(size.max()) + 1, {*zip(size, runs.experts, runs.tokens, strict=True)}
    routed = sum(len(np.unique(runs.experts[size == one])) > 1 for one in range(num_sizes))
    sparse = len(counts) > 1
    free = np.array([True] * 5 + [sparse, len(counts) >= 4, routed >= 3])
    if num_sizes < FEWEST or len(tokens) < FEWEST or len(cells) < int(free.sum()) + 2:
        raise UserError(
            f"a scaling law needs {FEWEST} sizes, {FEWEST} counts of tokens and "
            f"{int(free.sum()) + 2} cells; the study has {num_sizes}, {len(tokens)} and "
            f"{len(cells)}: sweep more"
        )
    return free


def sizes(runs: Runs) -> NDArray[np.int64]:
    """The size of every run by its rank: models whose active parameters differ by less than a
    tenth are one, as the router adds a little to those of the dense twin."""
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
    (laws, points, 8)."""
    n, _, d = place
    log_m, log_count, slope = _log_multiplier(constants, place)
    floor, log_a, alpha, log_b, beta, gamma, _, c = (constants[:, i : i + 1] for i in range(8))
    size = np.exp(log_a - alpha * (n + log_m))
    data = np.exp(log_b - beta * d)
    by_m = -alpha * size
    slopes = [
        np.ones_like(size), size, -size * (n + log_m), data, -data * d,
        by_m * log_count, by_m * (gamma + c * n) * slope, by_m * n * log_count,
    ]  # fmt: skip
    return floor + size + data, np.stack(slopes, axis=-1)


def _starts(runs: Runs, free: NDArray[np.bool_]) -> Array:
    """A grid of starts: the floor, both exponents, the experts."""
    low = float(runs.loss.min())
    spread = float(runs.loss.mean())
    starts = [
        [share * low, np.log((spread - share * low) / 2), alpha, np.log((spread - share * low) / 2),
         beta, 0.3, x, 0.0]
        for share in (0.3, 0.6, 0.85) for alpha in (0.2, 0.5)
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
    now = starts.copy()
    target = np.broadcast_to(target, (len(now), target.shape[-1]))
    damping = np.full(len(now), 1e-3)
    fitted, slopes = losses(now, place)
    residuals = target - np.log(fitted)
    cost = _huber(residuals, delta)
    eye = np.eye(len(free))
    for _ in range(MOST_STEPS):
        weights = np.minimum(1, delta / np.maximum(np.abs(residuals), 1e-300))
        columns = slopes / fitted[..., None]
        weighted = columns * weights[..., None]
        gradient = np.einsum("bnp,bn->bp", weighted, residuals)
        stuck = ~free | ((now <= LOW) & (gradient < 0)) | ((now >= high) & (gradient > 0))
        curvature = np.matmul(weighted.transpose(0, 2, 1), columns)
        keep = (~stuck)[:, :, None] & (~stuck)[:, None, :]
        curvature = np.where(keep, curvature, 0) + stuck[:, :, None] * eye
        ridge = damping[:, None] * np.einsum("bpp->bp", curvature) + 1e-12
        damped = curvature + ridge[:, :, None] * eye
        right: Array = np.where(stuck, 0.0, gradient)
        step: Array = np.asarray(np.linalg.solve(damped, right[..., None]), np.float64)[..., 0]
        tried = np.where(free, np.clip(now + np.clip(step, -1, 1), LOW, high), 0.0)
        new_fitted, new_slopes = losses(tried, place)
        new_residuals = target - np.log(new_fitted)
        new_cost = _huber(new_residuals, delta)
        better = new_cost < cost
        gain = np.where(better, (cost - new_cost) / (cost + 1e-300), 0)
        now = np.where(better[:, None], tried, now)
        fitted = np.where(better[:, None], new_fitted, fitted)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        residuals = np.where(better[:, None], new_residuals, residuals)
        cost = np.where(better, new_cost, cost)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-9, 1e6)
        if ((gain < 1e-7) & (better | (damping > 1e3))).all():
            break
    return now, cost


def _resampled(
    residuals: Array, seeds: Sequence[int] | NDArray[np.int64], spare: int, samples: int,
    random: np.random.Generator,
) -> Array:  # fmt: skip
    """Noise for the bootstrap, shape (samples, runs): residuals drawn with replacement once the
    part that all runs of a seed share is taken out, and for that part a shift of the whole law,
    Student's t over the seeds (three of them resampled would make it too small)."""
    names, index = np.unique(np.asarray(seeds), return_inverse=True)
    shared = np.array([residuals[index == i].mean() for i in range(len(names))])
    own = residuals - shared[index]
    lost = len(names) - 1
    own *= np.sqrt(len(own) / max(spare - lost, 1))
    drawn: Array = np.asarray(random.choice(own - own.mean(), size=(samples, len(own))), float)
    if lost:
        # What chance alone makes of the mean of a seed's runs is in `drawn` already.
        chance = float(own.var()) * len(names) / len(own)
        width = np.sqrt(max(float(shared.var(ddof=1)) - chance, 0.0) / len(names))
        drawn = drawn + width * random.standard_t(lost, size=(samples, 1))
    return drawn
