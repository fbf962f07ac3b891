"""What a seed adds to the log loss of every run that has it: paired runs share their first weights
and their batches."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def seed_effects(
    log_loss: Array, seed: NDArray[np.int64], cell: NDArray[np.int64]
) -> tuple[Array, NDArray[np.int64], float]:
    """The effect of every seed on the log loss, by least squares on a cell's effect plus a seed's;
    the index of every run's seed; and the standard deviation over the seeds beyond chance. Seeds
    that are linked by shared cells have the mean 0; effects of others are not identified."""
    names, index = np.unique(seed, return_inverse=True)
    count = len(names)
    if count == 1:
        return np.zeros(1), index, 0.0
    parts, chance = _parts(log_loss, index, cell, count)
    effects = parts[:count]
    spread = float(np.sqrt(max(float(effects.var(ddof=1)) - chance**2 * count / len(index), 0.0)))
    return effects, index, spread


def run_noise(log_loss: Array, seed: NDArray[np.int64], cell: NDArray[np.int64]) -> float:
    """Standard deviation of the log loss of runs of one cell, their seeds' effects apart."""
    names, index = np.unique(seed, return_inverse=True)
    return _parts(log_loss, index, cell, len(names))[1]


def _parts(
    log_loss: Array, index: NDArray[np.int64], cell: NDArray[np.int64], count: int
) -> tuple[Array, float]:
    """The effects of seeds, then of cells, and the standard deviation of what they leave."""
    rows = np.arange(len(index))
    group = _joined(index, cell)
    design = np.zeros((len(index) + int(group.max()) + 1, count + int(cell.max()) + 1))
    design[rows, index] = design[rows, count + cell] = 1
    design[len(index) + group, np.arange(count)] = 1  # the parts of such seeds have the sum 0
    target = np.append(log_loss, np.zeros(int(group.max()) + 1))
    parts = np.asarray(np.linalg.lstsq(design, target, rcond=None)[0], np.float64)
    degrees_of_freedom = max(len(design) - design.shape[1], 1)
    left = float(((target - design @ parts) ** 2).sum()) / degrees_of_freedom
    return parts, float(np.sqrt(left))


def _joined(seed: NDArray[np.int64], cell: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group of every seed: seeds that share a cell, directly or through others."""
    has = np.zeros((int(seed.max()) + 1, int(cell.max()) + 1), dtype=np.bool_)
    has[seed, cell] = True
    joined = has @ has.T
    for _ in range(len(joined)):
        joined = joined @ joined
    return np.unique(joined.argmax(axis=1), return_inverse=True)[1].reshape(-1)
