"""What a model associates: a number of each unit (nats of "she" over "he" after an occupation) set
against what the unit is (an occupation of women or of men), tested together with all the others.

The effect is the slope of the numbers on `side`: for sides of -1/2 and 1/2 the difference of two
means. The null hands the units' sides to other units, and a p-value is the share of nulls in which
*any* of the effects tested together lies as many standard errors from 0 (Westfall & Young's
single-step maximum). Intervals hold at 95 % for all of them together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.05
FEWEST_UNITS = 4


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Of one column of an association: the slope, in units of the column, with its interval and
    p-value, both corrected for all effects tested together."""

    effect: float
    low: float
    high: float
    p: float
    units: int

    @property
    def is_found(self) -> bool:
        return self.p < LEVEL


@dataclass(frozen=True, eq=False)
class Association:
    """`side [U]` of the units and `values [U, J]`, a column for each effect. Units are drawn
    independently: an occupation, a word, a text."""

    side: Floats
    values: Floats


def effects(
    associations: Mapping[str, Association], *, shuffles: int, rng: np.random.Generator
) -> dict[str, list[Effect]]:
    """Of every column of every association, all tested together."""
    usable = {name: one for name, one in associations.items() if can_be_tested(one)}
    if not usable:
        return {}
    fits = {name: _fit(one.side, one.values) for name, one in usable.items()}
    highest = np.zeros(shuffles)
    for one in usable.values():
        sides = rng.permuted(np.tile(one.side, (shuffles, 1)), axis=1)
        highest = np.maximum(highest, _t_values(sides, one.values).max(1, initial=0))
    critical = float(np.quantile(highest, 1 - LEVEL))
    return {
        name: _effects(fit, highest, critical, len(usable[name].side)) for name, fit in fits.items()
    }


def can_be_tested(association: Association) -> bool:
    """Whether there are enough units, of both sides."""
    return len(association.side) >= FEWEST_UNITS and bool(np.ptp(association.side) > 0)


def _fit(side: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Slopes and their standard errors `[J]` by least squares."""
    x = side - side.mean()
    y = values - values.mean(0)
    slope = x @ y / (x @ x)
    residual = y - np.outer(x, slope)
    variance = (residual**2).sum(0) / (len(x) - 2) / (x @ x)
    return slope, np.sqrt(variance)


def _t_values(sides: Floats, values: Floats) -> Floats:
    """|slope / standard error| `[R, J]` with each of `sides [R, U]`, by the correlation."""
    x = sides - sides.mean(1, keepdims=True)
    y = values - values.mean(0)
    norms = np.sqrt((y**2).sum(0))
    r = x @ (y / np.where(norms > 0, norms, 1)) / np.sqrt((x**2).sum(1, keepdims=True))
    left = np.maximum(1 - r**2, 1e-12)
    return np.abs(r) * np.sqrt((len(values) - 2) / left)


def _effects(
    fit: tuple[Floats, Floats], highest: Floats, critical: float, units: int
) -> list[Effect]:
    found: list[Effect] = []
    for slope, error in zip(*fit, strict=True):
        t = abs(slope) / error if error > 0 else (np.inf if slope else 0.0)
        beaten = int((highest >= t - 1e-9).sum())
        found.append(
            Effect(
                effect=float(slope),
                low=float(slope - critical * error),
                high=float(slope + critical * error),
                p=(1 + beaten) / (1 + len(highest)),
                units=units,
            )
        )
    return found


def contrast(values: Floats, group: int, groups: Sequence[int]) -> Floats:
    """A group's column of `values [U, G]` less the mean of the others of its kind."""
    others = [one for one in groups if one != group]
    return values[:, group] - values[:, others].mean(1)
