"""The wild bootstrap by cluster: each cluster's own residual with a random sign.

Runs of one configuration deviate together where a law does not quite hold, so that the residuals of
all its seeds get one sign (Cameron, Gelbach and Miller 2008). No cluster's residual is taken for
another's: noise that differs from one configuration to the next stays where it is.

Three corrections for few clusters, each found necessary by `experiments.scaling_law.coverage`:
a cluster's residual is divided by one minus its leverage, as in the jackknife (HC3; CV3 of clusters
whose rows are alike); signs are Webb's six values of variance 1 (Webb 2014), which a dozen clusters
do not exhaust; and the scale of each sample varies as one that is estimated from as many degrees of
freedom does, which makes of a normal quantile Student's.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WEBB = np.sqrt(np.array([0.5, 1.0, 1.5], dtype=np.float64))
LEAST_LEFT = 0.1  # of 1 - leverage: a cluster that decides a constant alone tells nothing of noise


class Wild(NamedTuple):
    noise: Array  # to add to the fit, shape (samples, clusters)
    spread: float  # standard deviation of a residual of weight 1
    degrees_of_freedom: int  # clusters beyond the constants


def wild(
    residuals: Array, columns: Array, weight: Array, samples: int, random: np.random.Generator
) -> Wild:
    """One residual and one row of the Jacobian (clusters, constants) for each cluster, the means of
    its rows; `weight` is the root of their number, which both are multiplied by."""
    freedom = max(len(residuals) - columns.shape[1], 1)
    weighted = residuals * weight
    left = 1 - _leverage(columns * weight[:, None])
    corrected = residuals / np.clip(left, LEAST_LEFT, 1)
    signs = random.choice(np.concatenate([-WEBB, WEBB]), size=(samples, len(residuals)))
    scale = np.sqrt(freedom / random.chisquare(freedom, size=(samples, 1)))
    spread = float(np.sqrt((weighted**2).sum() / freedom))
    return Wild(scale * signs * corrected, spread, freedom)


def _leverage(columns: Array) -> Array:
    """The diagonal of the projection on the columns, shape (clusters)."""
    lengths = np.linalg.norm(columns, axis=0)
    used = columns[:, lengths > 0] / lengths[lengths > 0]
    left, values, _ = np.linalg.svd(used, full_matrices=False)
    kept = left[:, values > values.max(initial=0) * 1e-10]
    return np.asarray((kept**2).sum(axis=1), np.float64)
