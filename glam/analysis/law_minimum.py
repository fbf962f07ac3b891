"""Least Huber loss of log residuals of a scaling law, from many starts at once."""

import numpy as np
from numpy.typing import NDArray

from glam.analysis.law_forms import LOW, NAMES, Array, Place, losses

MOST_STEPS = 60


def starts(lowest: float, mean: float, free: NDArray[np.bool_], floor: float) -> Array:
    """A grid of starts: the floor or p, both exponents, the experts. `floor` is where the form
    pins it, 0 in a form without."""
    floors = [share * lowest for share in (0.3, 0.6, 0.85)] if free[0] else [floor]
    powers = (0.5, 1.0, 1.5) if free[8] else (0.0,)
    counts = (0.002, 0.03) if free[6] else (0.0,)
    found = [
        [e, half := np.log((mean - e) / 2), alpha, half, beta, 0.3, x, 0.0, log_p, 0.0, 0.0]
        for e in floors for log_p in powers for alpha in (0.2, 0.5)
        for beta in (0.2, 0.5) for x in counts
    ]  # fmt: skip
    kept = free | (np.array(NAMES) == "e")  # a pinned floor is no free constant, and not 0
    return np.where(kept, np.array(found, dtype=np.float64), 0.0)


def minimise(
    begin: Array,
    at: Place,
    target: Array,
    weight: Array,
    free: NDArray[np.bool_],
    high: Array,
    delta: float,
) -> tuple[Array, Array]:
    """Levenberg and Marquardt's method with Huber's weights, projected on the bounds, for all
    starts at once: a bootstrap is one call. `target` are log losses, `weight` is what a residual
    is multiplied by. Returns the constants and the costs, one for each start."""
    now, eye = begin.copy(), np.eye(len(free))
    target = np.broadcast_to(target, (len(now), target.shape[-1]))
    damping = np.full(len(now), 1e-3)
    columns, residuals = _linear(now, at, target, weight)
    cost = _huber(residuals, delta)
    moving = np.arange(len(now))  # those that are not at their minimum yet
    for _ in range(MOST_STEPS):
        here, left, along = now[moving], residuals[moving], columns[moving]
        step = _step(here, left, along, damping[moving], free, high, delta, eye)
        tried = np.where(free, np.clip(here + step, LOW, high), here)
        new_columns, new_residuals = _linear(tried, at, target[moving], weight)
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


def _step(
    here: Array, left: Array, along: Array, damping: Array, free: NDArray[np.bool_], high: Array,
    delta: float, eye: Array,
) -> Array:  # fmt: skip
    """At most one unit a constant, 0 for those that are held or would leave their bounds."""
    weighted = along * np.minimum(1, delta / np.maximum(np.abs(left), 1e-300))[..., None]
    gradient = (weighted * left[..., None]).sum(axis=1)
    stuck = ~free | ((here <= LOW) & (gradient < 0)) | ((here >= high) & (gradient > 0))
    curvature = np.matmul(weighted.transpose(0, 2, 1), along)
    keep = (~stuck)[:, :, None] & (~stuck)[:, None, :]
    curvature = np.where(keep, curvature, 0) + stuck[:, :, None] * eye
    ridge = damping[:, None] * np.einsum("bpp->bp", curvature) + 1e-12
    right: Array = np.where(stuck, 0.0, gradient)
    damped = curvature + ridge[:, :, None] * eye
    step: Array = np.asarray(np.linalg.solve(damped, right[..., None]), np.float64)[..., 0]
    return np.clip(step, -1, 1)


def _huber(residuals: Array, delta: float) -> Array:
    size = np.abs(residuals)
    if not np.isfinite(delta):
        return (size**2 / 2).sum(-1)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)).sum(-1)


def _linear(constants: Array, at: Place, target: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted slopes of the log losses in the constants, and `target` minus the log losses."""
    fitted, slopes = losses(constants, at)
    columns = slopes * (weight / fitted)[..., None]
    return columns, (target - np.log(fitted)) * weight
