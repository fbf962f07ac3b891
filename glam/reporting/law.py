"""The scaling law of a study that varies size, tokens and experts: section of the page, figures
and `law.json`."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from glam.analysis.forecast import (
    BAR,
    Fitted,
    best_for_budgets,
    dense_equivalents,
    fitted,
    split_of,
)
from glam.analysis.law_forms import BYTES_PER_TOKEN, FORMS, NAMES, Array, floor_of
from glam.analysis.leads import BestOfBudget, best_of_budgets
from glam.analysis.paired import EXPERTS, StudyRow
from glam.analysis.scaling_law import CONFIDENCE, Law, Runs, interval, sizes
from glam.errors import UserError
from glam.reporting.study_figures import Draw, on_page, on_paper, signed_tick
from glam.reporting.theme import FONT, Theme, heading, log_axis, number_format, save
from glam.units import fixed, is_number, si

MEANING = {
    "e": "floor of the loss, nats per token",
    "log_a": "log of the size term at N₀",
    "alpha": "exponent of active parameters",
    "log_b": "log of the data term at D₀",
    "beta": "exponent of training tokens",
    "gamma": "exponent of experts in the multiplier",
    "x": "saturation, 1 / E_max",
    "c": "interaction of log N and log Ê",
    "log_p": "log of p: how far the larger term hides the smaller",
    "omega": "exponent of experts in the data term",
    "zeta": "interaction of log D and log Ê",
}
WHOSE = {
    "chinchilla": "Chinchilla’s form",
    "kaplan": "Kaplan’s form",
    "power_mean": "the power mean with a pinned floor",
    "lead": "the power mean where the lead follows tokens per parameter",
    "joint": "the joint form of routed laws",
}


def section(
    study: str, cells: Sequence[StudyRow]
) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """The section of the page and the files beside it: None and no files where neither size nor
    tokens vary, a single sentence where the grid is too small for a fit or still trains."""
    runs = runs_of(cells)
    if runs is None or (len(np.unique(runs.tokens)) < 2 and sizes(runs).max() == 0):
        return None, {}
    # What is held out depends on the whole grid, and a page that is written while it trains would
    # take a core for seconds each time.
    if left := sum(cell.status == "unfinished" for cell in cells):
        return {"sentence": f"The scaling law waits for unfinished runs: {left}."}, {}
    try:
        _check_distinct(cells)
        floor = floor_of(bytes_per_token(cells))
        forms = fitted(runs, floor=floor)
    except UserError as error:
        return {"sentence": f"No scaling law: {error}."}, {}
    law = forms[0].law
    told = as_json(forms, runs)
    groups = _by_size(runs)
    draw, spread = curves(law, runs, groups), residuals(law, runs)
    plots = on_page(draw, list(groups), "law", lambda name: f"{name}: loss by training tokens.")
    words = "Residuals of the law against the fitted loss."
    plots += on_page(spread, ["residuals"], "law-residuals", lambda _: words)
    files = save(on_paper(draw, list(groups), "held-out loss (nats per token)"), "law", study)
    files |= save(on_paper(spread, ["residuals"], ""), "law_residuals", study)
    text = json.dumps(_finite(told), indent=1, ensure_ascii=False, allow_nan=False)
    files["law.json"] = f"{text}\n".encode()
    content = {
        "sentence": "",
        "form": law.form,
        "plots": plots,
        "constants": _constants(told),
        "whose": WHOSE[law.form],
        "warnings": told["warnings"],
        "held_out": _held_out_words(forms, told["split"]),
        "forms_out": _forms_out(forms),
        "cells_out": _cells_out(forms[0]),
        "budgets": _budgets(law, best_of_budgets(runs)),
        "best": [
            (si(b["flops"], "FLOP"), b["experts"], _between(b["between"]), si(b["active"]),
             si(b["tokens"]), _span(b["loss"], b["interval"]))
            for b in told["best"]
        ],
        "worth": [
            (si(w["active"]), w["experts"], si(w["dense"]),
             f"{si(w['interval'][0])} to {si(w['interval'][1])}")
            for w in told["worth"]
        ],
    }  # fmt: skip
    return content, files


def runs_of(cells: Sequence[StudyRow]) -> Runs | None:
    """Runs that a law can be fitted to: done, with a finite mean loss and all sizes known."""
    rows: list[list[float]] = []
    for cell in cells:
        known: list[Any] = [
            cell.part("parameters").get("active"),
            cell.values.get(EXPERTS, cell.summary.get("num_experts")),
            cell.summary.get("tokens"),
            cell.loss("mean"),
            cell.part("flops_per_token").get("forward"),
        ]
        if all(is_number(value) and value > 0 for value in known):
            rows.append([*known, cell.seed if isinstance(cell.seed, int) else 0])
    if not rows:
        return None
    active, experts, tokens, loss, flops, seed = np.array(rows, dtype=np.float64).T
    return Runs(
        active=active,
        experts=experts,
        tokens=tokens,
        loss=loss,
        flops=flops,
        seed=seed.astype(np.int64),
    )


def bytes_per_token(cells: Sequence[StudyRow]) -> float:
    """Of the held-out text, by the loss in nats a token and in bits a byte; that of the embedded
    corpora where no run has both."""
    found: list[float] = []
    for cell in cells:
        nats, bits = cell.loss("mean"), cell.part("bits_per_byte").get("mean")
        if nats is not None and is_number(bits) and bits > 0:
            found.append(nats / np.log(2) / bits)
    return float(np.median(found)) if found else BYTES_PER_TOKEN


def _check_distinct(cells: Sequence[StudyRow]) -> None:
    """Raises UserError where runs of one size, experts, tokens and seed differ by another key."""
    places: dict[tuple[Any, ...], StudyRow] = {}
    for cell in cells:
        summary, active = cell.summary, cell.part("parameters").get("active")
        experts = cell.values.get(EXPERTS, summary.get("num_experts"))
        place = (active, experts, summary.get("tokens"), cell.seed)
        other = places.setdefault(place, cell)
        if None not in place and other.values != cell.values:
            keys = [key for key in cell.values if cell.values[key] != other.values.get(key)]
            raise UserError(
                f"runs of one size, experts, tokens and seed differ in {', '.join(keys)}, which "
                f"the law has no term for: sweep it in a study of its own"
            )


def _finite(told: Any) -> Any:
    """JSON has no infinity: null in its place."""
    match told:
        case dict():
            return {key: _finite(value) for key, value in told.items()}  # pyright: ignore
        case list() | tuple():
            return [_finite(value) for value in told]  # pyright: ignore
        case float():
            return told if np.isfinite(told) else None
        case _:
            return told


def as_json(forms: Sequence[Fitted], runs: Runs) -> dict[str, Any]:
    """`law.json`: the form that predicts the cells held out best (Chinchilla's where none can be
    left out), its predictions, the other forms, and what the cells say without a law."""
    law = forms[0].law
    return {
        "confidence": CONFIDENCE,
        "num_runs": len(runs.loss),
        "centre": {"active": law.centre[0], "tokens": law.centre[1]},
        "bar": BAR,
        "split": split_of(runs).words,
        **_told(forms[0]),
        "best": [dataclasses.asdict(one) for one in best_for_budgets(law, runs)],
        "worth": [dataclasses.asdict(one) for one in dense_equivalents(law, runs)],
        "cells": [dataclasses.asdict(one) for one in best_of_budgets(runs)],
        "other_forms": [_told(form) for form in forms[1:]],
    }


def _told(form: Fitted) -> dict[str, Any]:
    """Constants with intervals, diagnostics of the fit, and predictions of the cells held out."""
    law = form.law
    low, high = interval(law.draws)
    constants = {
        name: {
            "value": float(law.constants[i]),
            "interval": [float(low[i]), float(high[i])],
            "fitted": bool(law.free[i]),
        }
        for i, name in enumerate(NAMES)
    }
    held = [{**dataclasses.asdict(one), "inside": one.is_inside} for one in form.left_out]
    return {
        "form": law.form,
        "source": FORMS[law.form].source,
        "accepted": form.is_accepted,
        "error": form.error,
        "pinned": law.pinned,
        "constants": constants,
        "noise": law.noise,
        "run_noise": law.run_noise,
        "condition": law.condition,
        "warnings": law.warnings(),
        "held_out": held,
    }


def _by_size(runs: Runs) -> dict[str, Runs]:
    size = sizes(runs)
    parts = [runs.where(size == rank) for rank in range(int(size.max()) + 1)]
    return {f"{si(float(part.active.min()))} active": part for part in parts}


def curves(law: Law, runs: Runs, groups: dict[str, Runs]) -> Draw:
    """A panel a size: dots are runs; a curve with its band for each number of experts."""
    first, last = float(runs.tokens.min()), 4 * float(runs.tokens.max())
    span: Array = np.exp(np.linspace(np.log(first), np.log(last), 40, dtype=np.float64))
    counts: list[float] = np.unique(runs.experts).tolist()

    def draw(axes: Axes, theme: Theme, name: str) -> None:
        part = groups[name]
        for i, count in enumerate(counts):
            mine = part.where(part.experts == count)
            if not len(mine.loss):
                continue
            same = np.ones(len(span))
            line, draws = law.predict(same * mine.active[0], same * count, span)
            low, high = interval(draws)
            colour = theme.value(i, len(counts))
            axes.fill_between(span, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(span, line, color=colour, linewidth=1.4, label=f"{count:.0f}")
            axes.plot(mine.tokens, mine.loss, "o", color=colour, markersize=4, alpha=0.6, mew=0)
        log_axis(axes)
        axes.set_xlabel("training tokens")
        heading(axes, theme, name)
        axes.legend(
            title="experts", frameon=False, fontsize=FONT - 1, labelcolor=theme.muted,
            handlelength=1.2,
        ).get_title().set_color(theme.muted)  # fmt: skip

    return draw


def residuals(law: Law, runs: Runs) -> Draw:
    """Measured over fitted loss, as a difference of logarithms, against the fitted loss."""
    counts: list[float] = np.unique(runs.experts).tolist()

    def draw(axes: Axes, theme: Theme, name: str) -> None:
        fitted = runs.loss * np.exp(-law.residuals)
        axes.axhline(0, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
        for i, count in enumerate(counts):
            mine = runs.experts == count
            axes.plot(
                fitted[mine], law.residuals[mine], "o", color=theme.value(i, len(counts)),
                markersize=4,
                alpha=0.6, mew=0,
            )  # fmt: skip
        axes.set_xlabel("fitted loss (nats per token)")
        axes.yaxis.set_major_formatter(number_format(signed_tick))
        heading(axes, theme, name)

    return draw


def _constants(told: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (name, MEANING[name], fixed(one["value"]).replace("-", "−"), _interval(one["interval"]))
        for name, one in told["constants"].items()
        if one["fitted"]
    ]


def _held_out_words(forms: Sequence[Fitted], split: str) -> str:
    best = forms[0]
    if not best.left_out:
        return (
            f"The grid is too small to predict a part of it from the rest; the page uses "
            f"{WHOSE[best.law.form]}."
        )
    verdict = (
        f"At least {BAR:.0%} of the cells lie inside: the law is accepted."
        if best.is_accepted
        else f"Fewer than {BAR:.0%} of the cells lie inside: go by the cells below, not by the law."
    )
    return (
        f"Each form, fitted to the rest, predicts {split} of the grid. The page uses "
        f"{WHOSE[best.law.form]}, which is nearest in the mean: {best.inside} of "
        f"{len(best.left_out)} cells lie inside their 90 % interval. {verdict}"
    )


def _forms_out(forms: Sequence[Fitted]) -> list[tuple[str, str, str, str]]:
    return [
        (WHOSE[one.law.form], f"{one.inside} of {len(one.left_out)}", fixed(one.error),
         fixed(one.law.noise))
        for one in forms if one.left_out
    ]  # fmt: skip


def _cells_out(form: Fitted) -> list[tuple[str, str, int, str, str, str]]:
    """A row a cell held out: measured loss, and the prediction."""
    return [
        (si(one.active), si(one.tokens), one.experts, fixed(one.measured),
         _span(one.predicted, one.interval), "inside" if one.is_inside else "outside")
        for one in form.left_out
    ]  # fmt: skip


def _budgets(law: Law, found: Sequence[BestOfBudget]) -> list[list[Any]]:
    """A row a budget: what the cells say of its experts, and what the law says."""
    return [
        [si(one.flops, "FLOP"), si(one.active), si(one.tokens), one.experts,
         ", ".join(map(str, one.rivals)), _ahead(one), _by_law(law, one)]
        for one in found
    ]  # fmt: skip


def _ahead(one: BestOfBudget) -> str:
    if one.lead is None:
        return "–"
    if one.lead.interval is None:
        return fixed(one.lead.mean).replace("-", "−")
    return _span(one.lead.mean, one.lead.interval).replace("-", "−")


def _by_law(law: Law, one: BestOfBudget) -> str:
    """The lead of those experts over the dense twin by the law, nats per token."""
    active, tokens = np.full(2, one.active), np.full(2, one.tokens)
    best, draws = law.predict(active, np.array([1.0, one.experts]), tokens)
    low, high = interval(draws[:, 0] - draws[:, 1])
    return _span(float(best[0] - best[1]), (float(low), float(high))).replace("-", "−")


def _between(found: Sequence[int]) -> str:
    return f"{found[0]}" if found[0] == found[1] else f"{found[0]} to {found[1]}"


def _span(value: float, found: Sequence[float]) -> str:
    return f"{fixed(value)} ({_interval(found)})"


def _interval(found: Sequence[float]) -> str:
    return f"{fixed(found[0])} to {fixed(found[1])}".replace("-", "−")
