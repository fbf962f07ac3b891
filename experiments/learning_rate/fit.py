"""The rule of `optimizer.learning_rate=auto`, fitted to the sweep.

A parabola of the loss in the logarithm of the rate gives each cell (size, tokens, experts) an
optimum, a seed at a time, and how much a rate beside it costs. Two rules are then held against each
other by cells that they have not seen, the largest size and the most tokens:

power law: log rate = c - a log N - b log D                  (DeepSeek LLM, Step Law)
width:     a = 1/2, so that the rate falls as 1 / width, as that of hidden matrices does in muP
           (Yang et al. 2022, arXiv 2203.03466)

Intervals are of a wild bootstrap by size and budget.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.analysis.wild_bootstrap import wild

Array = NDArray[np.float64]
SAMPLES, CONFIDENCE = 4000, 0.9
MILLION = 1e6
REACH = 2.1  # a parabola is of the rates within this factor of the best, however fine the scan
WIDTH = 0.5  # of the rule by width: N grows as its square


class Optimum(NamedTuple):
    """Of one cell and seed."""

    size: float
    tokens: float
    experts: int
    seed: int
    log_rate: float
    curvature: float  # nats per squared unit of the logarithm of the rate
    at_edge: bool  # the best rate of the scan is its least or its largest


class Rule(NamedTuple):
    scale: float
    size_exponent: float
    token_exponent: float

    def log_rate(self, size: Array, tokens: Array) -> Array:
        return (
            math.log(self.scale)
            - self.size_exponent * np.log(size / MILLION)
            - self.token_exponent * np.log(tokens / MILLION)
        )


def optimum(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, float, bool]:
    """Logarithm of the best rate, curvature there, and whether the best is at an end of the scan,
    where the best rate itself is taken."""
    order = np.argsort(rates)
    logs, values = np.log(np.array(rates))[order], np.array(losses, np.float64)[order]
    best = int(values.argmin())
    if best in (0, len(logs) - 1):
        return float(logs[best]), math.nan, True
    near = abs(logs - logs[best]) < math.log(REACH)
    x, y = logs[near], values[near]
    a, b, _ = np.polyfit(x - logs[best], y, 2)
    shift = float(np.clip(-b / (2 * a), x[0] - logs[best], x[-1] - logs[best]))
    return float(logs[best]) + shift, 2 * float(a), False


def optima(rows: Sequence[dict[str, str]]) -> list[Optimum]:
    cells: dict[tuple[float, float, int, int], list[tuple[float, float]]] = {}
    for row in rows:
        cell = (float(row["parameters"]), float(row["tokens"]))
        key = (*cell, int(row["experts"]), int(row["seed"]))
        cells.setdefault(key, []).append((float(row["rate"]), float(row["loss"])))
    found: list[Optimum] = []
    for (size, tokens, experts, seed), points in sorted(cells.items()):
        rates, losses = zip(*points, strict=True)
        found.append(Optimum(size, tokens, experts, seed, *optimum(rates, losses)))
    return found


def fitted(found: Sequence[Optimum], size_exponent: float | None = None) -> Rule:
    """By least squares; with a `size_exponent` the others alone."""
    columns, y = _system(found, size_exponent)
    constants = np.linalg.lstsq(columns, y, rcond=None)[0]
    return _rule(constants, size_exponent)


def _system(found: Sequence[Optimum], size_exponent: float | None) -> tuple[Array, Array]:
    size = np.log([one.size / MILLION for one in found])
    tokens = np.log([one.tokens / MILLION for one in found])
    y = np.array([one.log_rate for one in found], np.float64)
    ones = np.ones_like(size)
    if size_exponent is not None:
        return np.stack([ones, -tokens], 1), y + size_exponent * size
    return np.stack([ones, -size, -tokens], 1), y


def _rule(constants: NDArray[np.floating[Any]], size_exponent: float | None) -> Rule:
    first, *others = constants.tolist()
    exponents = others if size_exponent is None else [size_exponent, *others]
    return Rule(math.exp(first), *exponents)


def intervals(
    found: Sequence[Optimum], size_exponent: float | None = None, seed: int = 0
) -> list[tuple[float, float]]:
    """90 % intervals of the rule's three constants; one that is given has no width."""
    columns, y = _system(found, size_exponent)
    constants = np.linalg.lstsq(columns, y, rcond=None)[0]
    clusters: dict[tuple[float, float], list[int]] = {}
    for place, one in enumerate(found):
        clusters.setdefault((one.size, one.tokens), []).append(place)
    places = list(clusters.values())
    residuals = y - columns @ constants
    means = np.array([residuals[its].mean() for its in places])
    rows = np.stack([columns[its].mean(0) for its in places])
    weight = np.sqrt([len(its) for its in places])
    noise = wild(means, rows, weight, SAMPLES, np.random.default_rng(seed)).noise
    weighted = rows * weight[:, None]
    solved = np.linalg.lstsq(weighted, ((rows @ constants + noise) * weight).T, rcond=None)[0]
    ends = (50 - 50 * CONFIDENCE, 50 + 50 * CONFIDENCE)
    made = [_rule(one, size_exponent) for one in solved.T]
    return [tuple(np.percentile(values, ends)) for values in zip(*made, strict=True)]


class Held(NamedTuple):
    """How a rule predicts what it has not seen."""

    what: str
    rule: str
    factor: float  # root mean square, as a factor of the rate
    regret: float  # nats above the best of each cell, their mean


def held_out(found: Sequence[Optimum]) -> list[Held]:
    """Both rules, with the largest size left out and with the most tokens left out."""
    inside = [one for one in found if not one.at_edge]
    told: list[Held] = []
    for what, value in (("largest size", "size"), ("most tokens", "tokens")):
        most = max(getattr(one, value) for one in inside)
        seen = [one for one in inside if getattr(one, value) < most]
        unseen = [one for one in inside if getattr(one, value) == most]
        for name, exponent in (("power law", None), ("width", WIDTH)):
            off = _off(fitted(seen, exponent), unseen)
            curvature = np.array([one.curvature for one in unseen])
            factor = math.exp(float(np.sqrt((off**2).mean())))
            told.append(Held(what, name, factor, float((curvature * off**2 / 2).mean())))
    return told


def _off(rule: Rule, found: Sequence[Optimum]) -> Array:
    size, tokens = (np.array([getattr(one, name) for one in found]) for name in ("size", "tokens"))
    return rule.log_rate(size, tokens) - np.array([one.log_rate for one in found])
