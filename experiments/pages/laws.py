"""The scaling law and the lead of experts: from law.json and from the tables."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiments.lead import __main__ as leads
from experiments.pages.tables import path, plain
from experiments.pages.words import Claim, Effect, listed, markdown
from experiments.scaling_law import coverage, grid, refit
from glam.analysis.forecast import split_of
from glam.analysis.scaling_law import cells
from glam.reporting.law import WHOSE
from glam.units import counted, in_message, percent, ticks


def _law() -> dict[str, Any]:
    return json.loads(path("scaling_law/law.json").read_text())


def law() -> Claim:
    """Accepted, by the rule that was stated before the fit."""
    told = _law()
    held = told["held_out"]
    inside = sum(cell["inside"] for cell in held)
    low, high = told["constants"]["gamma"]["interval"]
    gamma = Effect(told["constants"]["gamma"]["value"], low, high)
    sentence = (
        f"Of {len(refit.every(told))} forms {WHOSE[told['form']]} predicts best: of the cells held "
        f"out ({told['split']}) {inside} of {len(held)} lie inside their 90 % intervals, and "
        f"{percent(told['bar'], 0)} of them are needed; its exponent of experts is {gamma.told()}."
    )
    return Claim("Yes" if told["accepted"] else "No", in_message(sentence))


def law_table(part: str) -> str:
    """`forms`, `held_out`, `constants` or `cells` of the fit."""
    parts: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
        "forms": refit.forms,
        "held_out": refit.held_out,
        "constants": refit.constants,
        "cells": refit.cells,
    }
    return in_message("\n".join(parts[part](_law())))


def best_counts() -> str:
    """In how many budgets experts lead beyond the noise."""
    budgets = _law()["cells"]
    ahead = sum(bool(one["lead"]) and one["lead"]["interval"][0] > 0 for one in budgets)
    dense = sum(one["experts"] == 1 for one in budgets)
    several = sum(len(one["rivals"]) > 1 for one in budgets)
    return (
        f"- Of {counted(len(budgets), 'budget')} the best number of experts leads the dense twin "
        f"beyond the noise in {ahead}; dense is best in {dense}; in {several} the best cannot be "
        "told from another number."
    )


def planned_grid() -> str:
    """The cells of the grid that is to be fitted, and their cost."""
    keys, runs = grid.swept(), grid.planned()
    sizes = listed(
        f"`{model}` ({in_message(ticks(size))})"
        for model, size in zip(keys["model"], _sizes(), strict=True)
    )
    tokens = listed(in_message(ticks(float(one))) for one in keys["training.tokens"])
    experts = listed("1 (dense)" if one == "1" else one for one in keys["model.num_experts"])
    split, place = split_of(runs), cells(runs)
    return (
        f"{sizes} active parameters; {tokens} tokens; {experts} experts; "
        f"{counted(len(keys['seed']), 'paired seed')}: {len(runs.loss)} runs. Held out from every "
        f"fit: {split.words}, {len(np.unique(place[~split.kept]))} of the {len(np.unique(place))} "
        "cells.\n"
        f"\n{grid.table()}"
    )


def _sizes() -> list[float]:
    """Of the dense twins, smallest first."""
    active = {
        row["model"]: float(row["parameters/active"])
        for row in grid.measured()
        if row["model.num_experts"] == "1"
    }
    return [active[model] for model in grid.swept()["model"]]


def covered() -> str:
    rows = plain("scaling_law/coverage.csv")
    error = max(float(row["error"]) for row in rows)
    words = (
        f"The share of nominal {percent(float(rows[0]['nominal']), 0)} intervals that hold the "
        f"truth, over {rows[0]['simulations']} simulated laws of each form (the error of a share "
        f"is at most {error:.2f}):"
    )
    return in_message(words) + "\n\n" + "\n".join(coverage.markdown(rows))


def parabolas() -> str:
    rows = plain("scaling_law/parabolas.csv")
    columns = ("true_exponent", "parabola_exponent", "joint_exponent")
    made = [
        [
            "the same for all budgets" if row["sizes"] == "fixed" else "about each budget's best",
            row["span"],
            *(f"{float(row[name]):.3f}" for name in columns),
            *(f"{float(row[f'parabola_size_{end}']):.2f}" for end in ("first", "last")),
        ]
        for row in rows
    ]
    head = ["sizes", "largest over the middle", "exponent: law", "parabolas", "joint fit"]
    return markdown([*head, "best size over the true, first budget", "last budget"], made)


def independent() -> str:
    made = [
        [
            row["experts"],
            row["form"],
            f"{float(row['measured']):.3f}",
            _between(row, "theirs", "their"),
            _between(row, "ours", "our"),
            f"{float(row['their_floor_low']):.1f} to {float(row['their_floor_high']):.1f}".replace(
                "-", "−"
            ),
        ]
        for row in plain("scaling_law/independent.csv")
    ]
    head = ["experts", "form", "measured", "theirs", "ours", "their floor, interval"]
    return markdown(head, made)


def _between(row: dict[str, str], value: str, ends: str) -> str:
    names = (value, f"{ends}_low", f"{ends}_high")
    middle, low, high = (f"{float(row[name]):.3f}" for name in names)
    return f"{middle} ({low} to {high})"


def beyond() -> str:
    """Predictions of a size that the fit has not seen, by every form."""
    rows = plain("scaling_law/beyond.csv")
    model = rows[0]["model"]
    if any(row["model"] == model for row in plain("scaling_law/results.csv")):
        return f"The grid has `{model}` itself by now, and no larger size is trained."
    forms = list(dict.fromkeys(row["form"] for row in rows))
    counts = list(dict.fromkeys(row["experts"] for row in rows))
    at = {(row["experts"], row["form"]): row for row in rows}
    made = [
        [
            count,
            at[count, forms[0]]["measured"],
            *(f"{at[count, one]['predicted']} {at[count, one]['where']}" for one in forms),
        ]
        for count in counts
    ]
    inside = listed(
        f"{one} {sum(at[count, one]['where'] == 'inside' for count in counts)}" for one in forms
    )
    table = markdown(["experts", "measured", *(f"`{one}`" for one in forms)], made)
    return f"Of {len(counts)} cells of `{model}` inside their 90 % intervals: {inside}.\n\n{table}"


def _lead_points() -> list[leads.Point]:
    """Raises NotTrainedError where a study that brings leads has no table."""
    return leads.points([path(name) for name in leads.TABLES])


def lead() -> Claim:
    trends = leads.trends(_lead_points())
    if not trends:
        return Claim("Not told", "There are too few cells for a slope.")
    ratio, size = (Effect(one.value, one.low, one.high) for one in trends)
    return Claim(
        ratio.verdict("higher").capitalize(),
        f"For each doubling of tokens per active parameter the lead of {leads.EXPERTS} experts "
        f"over the dense twin changes by {ratio.told(4)} nats; for each doubling of size at as "
        f"many, by {size.told(4)}.",
    )


def lead_table() -> str:
    return leads.table(_lead_points())
