"""Forms of a joint scaling law of loss in active parameters N, experts E and training tokens D.

    L(N, E, D) = e + (S^p + T^p)^(1/p)
    S = a (N m)^-alpha      log m = (gamma + c k) log Ê      1 / Ê = 1 / (E - 1 + 1 / (1 - x)) + x
    T = b D^-beta Ê^-(omega + zeta log(D / D0))

With E = 1, Ê = m = 1. k is log(N / N0), or in one form log(N / N0) - log(D / D0). Ê is the
saturating number of experts of Clark et al. 2022 (section 5) with E_start = 1, which makes
m(1) = 1, and E_max = 1 / x. x = 0 means no saturation: a bound that a fit can reach, where E_max
would diverge. m is their effective parameter count as a multiplier, c their interaction of log N
and log Ê. The terms of a and b are used by their logarithm at N0 and D0, the geometric means of
the data, since at N = D = 1 they are strongly correlated with the exponents; p by its logarithm.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NAMES = ("e", "log_a", "alpha", "log_b", "beta", "gamma", "x", "c", "log_p", "omega", "zeta")
LOW = np.array([0.0, -12.0, 0.01, -12.0, 0.01, -1.0, 0.0, -0.5, 0.0, -0.5, -0.3])
HIGH = np.array([np.inf, 4.0, 2.0, 4.0, 2.0, 2.0, 0.5, 0.5, 3.5, 0.5, 0.3])

# What no model can go below, in bits per byte of English: the lower bound of Shannon 1951
# (Prediction and entropy of printed English). Hoffmann et al. 2022 find 1.69 nats per token of
# some four bytes, which is the same.
FLOOR_BITS_PER_BYTE = 0.6
BYTES_PER_TOKEN = 2.77  # of the embedded corpora with their vocabulary of 2,048


def floor_of(bytes_per_token: float = BYTES_PER_TOKEN) -> float:
    """The pinned floor in nats per token."""
    return FLOOR_BITS_PER_BYTE * bytes_per_token * float(np.log(2))


@dataclass(frozen=True, kw_only=True)
class Form:
    """`held` constants are 0, and a floor that is `pinned` is that of `floor_of`."""

    source: str
    held: tuple[str, ...]
    pinned: bool = False
    per_parameter: bool = False  # k counts tokens per active parameter, not parameters


TOKENS = ("omega", "zeta")
FORMS = {
    "chinchilla": Form(
        source="Hoffmann et al. 2022, section 3.3: the sum of a term in size, a term in tokens "
        "and a floor",
        held=("log_p", *TOKENS),
    ),
    "kaplan": Form(
        source="Kaplan et al. 2020, equation 1.5, where p is 1 / beta: no floor, and the larger "
        "term hides the smaller",
        held=("e", *TOKENS),
    ),
    "power_mean": Form(
        source="Videau et al. 2026 (the Skaling law) with the floor pinned: p and a floor "
        "express the same bend",
        held=TOKENS,
        pinned=True,
    ),
    "lead": Form(
        source="power_mean, where the multiplier follows tokens per active parameter: the lead "
        "of experts grows with training",
        held=TOKENS,
        pinned=True,
        per_parameter=True,
    ),
    "joint": Form(
        source="Ludziejewski et al. 2025 (Joint MoE scaling laws): experts change the factor and "
        "the exponent of both terms of the sum",
        held=("log_p",),
    ),
}


class Place(NamedTuple):
    """Where losses are asked for: log(N / N0), E, log(D / D0) and k, each of shape (points)."""

    size: Array
    experts: Array
    tokens: Array
    along: Array


def place(
    active: Array, experts: Array, tokens: Array, centre: tuple[float, float], form: str
) -> Place:
    size, data = np.log(active / centre[0]), np.log(tokens / centre[1])
    along = size - data if FORMS[form].per_parameter else size
    return Place(size, np.asarray(experts, float), data, along)


def _log_count(constants: Array, experts: Array) -> tuple[Array, Array]:
    """log Ê and its slope in x; each of shape (laws, points)."""
    x = constants[:, 6:7]
    count = experts - 1 + 1 / (1 - x)
    inverse = 1 / count + x
    return -np.log(inverse), -(1 - 1 / (count * (1 - x)) ** 2) / inverse


def losses(constants: Array, at: Place) -> tuple[Array, Array]:
    """Losses of many laws, shape (laws, points), and their slopes in the constants, shape
    (laws, points, 11)."""
    n, experts, d, k = at
    count, slope = _log_count(constants, experts)
    (floor, log_a, alpha, log_b, beta, gamma, _, c, log_p, omega, zeta) = (
        constants[:, i, None] for i in range(len(NAMES))
    )
    p = np.exp(log_p)
    power, loss_power = gamma + c * k, omega + zeta * d
    log_size = log_a - alpha * (n + power * count)
    log_data = log_b - beta * d - loss_power * count
    log_both = np.logaddexp(p * log_size, p * log_data) / p
    both = np.exp(log_both)
    of_size = np.exp(p * (log_size - log_both))  # its share of the sum of powers
    size, data = both * of_size, both * (1 - of_size)  # slopes in log_a and log_b
    by_m = -alpha * size
    slopes = [
        np.ones_like(size), size, -size * (n + power * count), data, -data * d,
        by_m * count, (by_m * power - data * loss_power) * slope, by_m * k * count,
        size * log_size + data * log_data - both * log_both,
        -data * count, -data * d * count,
    ]  # fmt: skip
    return floor + both, np.stack(slopes, axis=-1)


def dense_size(constants: Array, at: Place) -> Array:
    """log(N' / N0) of the dense model with these losses at equal tokens, shape (laws, points);
    inf where the term in tokens alone is above that loss."""
    fitted, _ = losses(constants, at)
    floor, log_a, alpha, log_b, beta = (constants[:, i, None] for i in range(5))
    p = np.exp(constants[:, 8, None])
    left = np.log(fitted - floor) * p
    share = np.exp(p * (log_b - beta * at.tokens) - left)  # of the term in tokens alone
    with np.errstate(divide="ignore"):
        log_size = (left + np.log1p(-np.minimum(share, 1))) / p
    return (log_a - log_size) / alpha
