"""`python -m experiments.scaling_law.parabolas`: the best size for a budget, by a parabola for each
budget and by the joint fit, on a law that is known and has no noise.

The law is that of Hoffmann et al. 2022 (section D.2). For each budget of training FLOPs C = 6 N D
seven sizes share out the budget, a parabola is put through their losses over log N (their approach
2, "IsoFLOP"), and the exponent of the best size in C is the slope of its lowest points. The sizes
lie about the best one of each budget (centred), or are the same for all budgets, as in a grid
(fixed). The joint fit has the same points. Writes parabolas.csv and the figure beside it.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.tables import write
from glam.analysis.law_forms import NAMES, Array
from glam.analysis.scaling_law import Runs, fit
from glam.reporting.theme import PRINT, heading, log_axis, panels, save

HERE = Path(__file__).parent
FLOOR, A, ALPHA, B, BETA = 1.69, 406.4, 0.34, 410.7, 0.28
BUDGETS = np.array([1e18, 1e19, 1e20, 1e21])
SIZES = 7
SPANS = (2.0, 4.0, 8.0, 16.0)  # of the largest size over the middle one
COLUMNS = (
    "sizes", "span", "true_exponent", "parabola_exponent", "joint_exponent",
    "parabola_size_first", "parabola_size_last", "joint_size_first", "joint_size_last",
)  # fmt: skip


class Points(NamedTuple):
    """Of one budget: sizes and losses."""

    budget: float
    active: Array
    loss: Array


def loss(active: Array, tokens: Array) -> Array:
    return FLOOR + A * active**-ALPHA + B * tokens**-BETA


def best_size(budget: Array, a: float, alpha: float, b: float, beta: float) -> Array:
    """Where the sum of both terms is least along C = 6 N D (Hoffmann et al. 2022, equation 4)."""
    return (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (budget / 6) ** (
        beta / (alpha + beta)
    )


def points(design: str, span: float) -> list[Points]:
    true = best_size(BUDGETS, A, ALPHA, B, BETA)
    middle = true if design == "centred" else np.full(len(true), np.exp(np.log(true).mean()))
    away = np.exp(np.linspace(-1, 1, SIZES) * np.log(span))
    return [
        Points(float(budget), centre * away, loss(centre * away, budget / (6 * centre * away)))
        for budget, centre in zip(BUDGETS, middle, strict=True)
    ]


def lowest(one: Points) -> float:
    """Of the parabola through the losses; nan where it has no lowest point."""
    found = np.polynomial.Polynomial.fit(np.log(one.active), one.loss, 2).convert().coef
    return float(np.exp(-found[1] / (2 * found[2]))) if found[2] > 0 else float("nan")


def joint(parts: Sequence[Points]) -> tuple[float, float, float, float]:
    """a, alpha, b, beta of the sum, by the fit that a study's page makes."""
    active = np.concatenate([one.active for one in parts])
    budget = np.repeat([one.budget for one in parts], SIZES)
    tokens, ones = budget / (6 * active), np.ones(len(active))
    runs = Runs(
        active=active, experts=ones, tokens=tokens, loss=np.concatenate([p.loss for p in parts]),
        flops=2 * active, seed=np.zeros(len(active), dtype=np.int64),
    )  # fmt: skip
    law = fit(runs, "chinchilla", samples=100)
    log_a, alpha, log_b, beta = (
        float(law.constants[NAMES.index(name)]) for name in ("log_a", "alpha", "log_b", "beta")
    )
    a = np.exp(log_a) * law.centre[0] ** alpha
    return float(a), alpha, float(np.exp(log_b) * law.centre[1] ** beta), beta


def rows() -> Iterator[dict[str, str]]:
    true = best_size(BUDGETS, A, ALPHA, B, BETA)
    for design in ("centred", "fixed"):
        for span in SPANS:
            parts = points(design, span)
            by_parabola = np.array([lowest(one) for one in parts])
            a, alpha, b, beta = joint(parts)
            by_fit = best_size(BUDGETS, a, alpha, b, beta)
            slope = np.polyfit(np.log(BUDGETS), np.log(by_parabola), 1)[0]
            numbers = (
                BETA / (ALPHA + BETA), slope, beta / (alpha + beta),
                *(by_parabola / true)[[0, -1]], *(by_fit / true)[[0, -1]],
            )  # fmt: skip
            told = (design, f"{span:g}", *(f"{number:.4f}" for number in numbers))
            yield dict(zip(COLUMNS, told, strict=True))


def figure(found: Sequence[dict[str, str]]) -> Figure:
    drawn, axes = panels(PRINT, 2, size=(4.2, 3.2))
    for i, one in enumerate(points("fixed", SPANS[1])):
        colour, line = PRINT.value(i, len(BUDGETS)), np.geomspace(one.active[0], one.active[-1], 60)
        parabola = np.polynomial.Polynomial.fit(np.log(one.active), one.loss, 2)
        axes[0].plot(one.active, one.loss, "o", color=colour, markersize=4)
        axes[0].plot(line, parabola(np.log(line)), color=colour, label=f"{one.budget:.0e} FLOPs")
        best = best_size(np.array([one.budget]), A, ALPHA, B, BETA)
        if one.active[0] <= best[0] <= one.active[-1]:
            axes[0].plot(best, loss(best, one.budget / (6 * best)), "*", color=PRINT.ink, ms=9)
    log_axis(axes[0])
    axes[0].set_xlabel("active parameters; star: the best by the law")
    axes[0].set_ylabel("loss (nats per token)")
    heading(axes[0], PRINT, f"the same sizes, up to {SPANS[1]:g} times the middle one")
    axes[0].legend(fontsize=8, frameon=False, labelcolor=PRINT.ink)
    axes[1].axhline(BETA / (ALPHA + BETA), color=PRINT.muted, linewidth=1, label="the law")
    for i, (design, column) in enumerate(
        (design, column) for column in ("parabola", "joint") for design in ("centred", "fixed")
    ):
        mine = [row for row in found if row["sizes"] == design]
        axes[1].plot(
            [float(row["span"]) for row in mine],
            [float(row[f"{column}_exponent"]) for row in mine],
            "o-" if column == "parabola" else "x--",
            color=PRINT.colour(i), markersize=5, label=f"{column}, sizes {design}",
        )  # fmt: skip
    log_axis(axes[1])
    axes[1].set_xlabel("largest size over the middle one")
    axes[1].set_ylabel("exponent of the best size in FLOPs")
    heading(axes[1], PRINT, "the exponent that each finds")
    axes[1].legend(fontsize=8, frameon=False, labelcolor=PRINT.ink)
    return drawn


def main() -> int:
    found = list(rows())
    write(HERE / "parabolas.csv", COLUMNS, found)
    for name, content in save(figure(found), "parabolas", "scaling_law").items():
        (HERE / name).write_bytes(content)
    print(*(" ".join(row.values()) for row in found), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
