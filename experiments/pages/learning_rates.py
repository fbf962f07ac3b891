"""The rule of the learning rate: what is scanned, what was found, whether it holds."""

import statistics

import numpy as np

from experiments.learning_rate import check, fit, sweep
from experiments.pages.tables import STUDIES, NotTrainedError, plain
from experiments.pages.words import Claim, Effect, listed, markdown
from glam.units import counted, in_message, ticks

SWEEP = "learning_rate/results.csv"


def _sweep() -> tuple[list[fit.Optimum], int]:
    """Optima of the seeds and cells that are there, and how many were planned."""
    found = fit.optima(plain(SWEEP))
    planned = sum(sweep.is_planned(m, t) for m in sweep.MODELS for t in sweep.BUDGETS)
    return found, planned * len(sweep.EXPERTS) * len(sweep.SEEDS)


def learning_rate() -> Claim:
    """Whether the rule holds where it was not fitted."""
    try:
        regrets = plain("learning_rate/regret.csv")
        runs = [row for row in plain("learning_rate/default_run.csv") if row["seed"] != "mean"]
    except NotTrainedError:
        found, planned = _sweep()
        inside = sum(not one.at_edge for one in found)
        return Claim(
            "Not answered yet",
            f"{len(found)} of {planned} scans (size, tokens, experts, seed) are there, {inside} of "
            "them with their best rate between two that are worse.",
        )
    worst, by_points = (
        max(float(row[name]) for row in regrets) for name in ("regret", "above_best_of_scan")
    )
    gain = Effect.of([float(row["difference"]) for row in runs])
    holds = worst <= check.MOST_REGRET and gain.middle <= -check.LEAST_GAIN and gain.high < 0
    return Claim(
        "Yes" if holds else "No",
        f"At {counted(len(regrets), 'width')} and budgets that the fit has not seen the rule lies "
        f"at most {worst:.4f} nats above the best of a scan, by the parabola through it "
        f"({by_points:.4f} above its lowest point, which noise lowers); the loss of the default "
        "run less that "
        f"at {check.BEFORE}: {gain.told(4)} nats.",
    )


def best_rates() -> str:
    """The best rate of each cell, over the seeds."""
    rows, (found, _) = plain(SWEEP), _sweep()
    names = {float(row["parameters"]): row["model"] for row in rows}
    places: dict[tuple[float, float, int], list[fit.Optimum]] = {}
    for one in found:
        places.setdefault((one.size, one.tokens, one.experts), []).append(one)
    made = [
        [
            f"`{names[size]}`",
            in_message(ticks(tokens)),
            str(experts),
            f"{statistics.geometric_mean(np.exp([one.log_rate for one in mine]).tolist()):.3g}",
            f"{sum(one.at_edge for one in mine)} of {len(mine)}",
        ]
        for (size, tokens, experts), mine in sorted(places.items())
    ]
    return markdown(["model", "tokens", "experts", "best rate", "at an end of its scan"], made)


def planned_sweep() -> str:
    """What the sweep scans, and what would count as failure, by the constants of its programs."""
    least = {model: listed(_tokens_of(model)) for model in sweep.MODELS}
    budgets = "; ".join(f"`{model}` at {tokens}" for model, tokens in least.items())
    experts = listed("1 (dense)" if one == 1 else str(one) for one in sweep.EXPERTS)
    seeds = listed(map(str, sweep.SEEDS))
    unseen = listed(
        f"width {width} at {in_message(ticks(tokens))}" for width, tokens in check.UNSEEN
    )
    return (
        f"- *Cells*: {budgets} tokens; {experts} experts; seeds {seeds}, which no study uses. The "
        "rates of a cell lie a factor of two apart, and more are tried until no seed of the dense "
        "twins or of the sparse ones is best at an end.\n"
        f"- *It holds* if it is within {check.MOST_REGRET} nats of the best of a scan at {unseen} "
        "tokens, which the sweep has none of, and if the default run ends at least "
        f"{check.LEAST_GAIN} nats lower than at {check.BEFORE}, over "
        f"{counted(len(check.SEEDS_OF_THE_DEFAULT), 'seed')}."
    )


def unseen() -> str:
    """Where the rule was checked and not fitted: its rate, the scan's best, and what lies between,
    by a parabola and by the scan's own points."""
    rows = plain("learning_rate/regret.csv")
    words = (
        f"Where it was not fitted, the mean of {counted(len(check.SEEDS), 'seed')} at "
        f"{len(check.AROUND)} rates each, from {check.AROUND[0]} to {check.AROUND[-1]} times the "
        "rule's, in nats above the best:"
    )
    made = [
        [
            *(row["width"], in_message(ticks(float(row["tokens"]))), row["rate"], row["best_rate"]),
            *(row["regret"], row["above_best_of_scan"]),
        ]
        for row in rows
    ]
    head = ["width", "tokens", "rule's rate", "best rate", "by the parabola", "by the points"]
    return f"{words}\n\n{markdown(head, made)}"


def _tokens_of(model: str) -> list[str]:
    return [in_message(ticks(one)) for one in sweep.BUDGETS if sweep.is_planned(model, one)]


def absent_scans() -> str:
    """Cells that were planned and have no row."""
    there = {(row["model"], row["tokens"]) for row in plain(SWEEP)}
    absent = [
        f"`{model}` at {in_message(ticks(float(tokens)))}"
        for model in sweep.MODELS
        for tokens in sweep.BUDGETS
        if sweep.is_planned(model, tokens) and (model, str(tokens)) not in there
    ]
    return f"Not scanned yet: {listed(absent)}." if absent else ""


def rule() -> str:
    """The constants, where the fit has been made."""
    file = STUDIES / "learning_rate/rule.yaml"
    if not file.exists():
        return ""
    return (
        "![best learning rates and the rule](optima.png)\n\n"
        f"The rule, as `optimizer.auto` has it:\n\n```yaml\n{file.read_text().strip()}\n```"
    )
