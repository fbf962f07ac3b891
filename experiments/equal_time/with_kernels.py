"""`python -m experiments.equal_time.with_kernels`: held-out loss at equal training seconds of one
core, up to three minutes, on unfiltered text, at the learning rate that suits the dense twin best.

Measures the tokens per second of every model in real runs, two at a time, which take turns
(with_kernels.json; on a quiet machine); a budget of seconds is the tokens that those make, and
every schedule ends at its own budget. Trains the dense twin and 16
experts at five rates on two seeds (rates.csv), and all models on five other seeds at the rate at
which the dense twin had the lowest loss (with_kernels.csv); prints the differences and draws them
(with_kernels.png, .svg). What is there of it is not run again.
"""

import csv
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.equal_time import study
from experiments.equal_time.study import EXPERTS, MEANS, ROUNDED, TRIAL, Row
from glam.data.sources import EMBEDDED
from glam.reporting.theme import PRINT, dress, save

FOLDER = Path(__file__).parent
CALIBRATION, RESULTS = FOLDER / "with_kernels.json", FOLDER / "with_kernels.csv"
SCAN = FOLDER / "rates.csv"
DATA, SEEDS = "unfiltered", range(2, 7)
BUDGETS = {20: EXPERTS, 60: EXPERTS, 120: (1, 16), 180: EXPERTS}  # seconds: who trains for so long
RATES, SCAN_SEEDS = (0.004, 0.006, 0.012, 0.018, 0.026), range(2)
SCAN_TOKENS = {1: 6_892_544, 16: 5_758_976}  # of three minutes, as they were once
NO_POINTS = "evaluation.points=0"
HELD_OUT = {source.name for source in EMBEDDED if source.role == "held_out"}


def speeds() -> dict[str, list[float]]:
    """Tokens per second, measured once: the models take turns, so that what else the machine does
    slows all of them."""
    if not CALIBRATION.is_file():
        few = ("evaluation=held_out", NO_POINTS, "evaluation.tokens_per_domain=1024", "rerun=true")
        runs = study.grid(EXPERTS, TRIAL, range(90, 96), DATA, "calibrate_kernels", *few)
        found = {
            str(experts): [
                run["tokens_per_second"] for run in runs if run["num_experts"] == experts
            ]
            for experts in EXPERTS
        }
        CALIBRATION.write_text(json.dumps(found, indent=1) + "\n")
    return json.loads(CALIBRATION.read_text())


def scan() -> list[dict[str, Any]]:
    """Losses by rate, written down too."""
    found = [
        {"rate": rate, "experts": experts, "seed": run["seed"], "trained on": _trained_on(run)}
        for rate in RATES
        for experts, tokens in SCAN_TOKENS.items()
        for run in study.grid(
            *(experts, tokens, SCAN_SEEDS, DATA, f"rate_{rate}"),
            *(NO_POINTS, f"optimizer.learning_rate={rate}"),
        )
    ]
    with SCAN.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "trained on": f"{row['trained on']:.5f}"} for row in found)
    return found


def _mean(found: Sequence[dict[str, Any]], rate: float, experts: int) -> float:
    here = (row for row in found if (row["rate"], row["experts"]) == (rate, experts))
    return statistics.mean(row["trained on"] for row in here)


def _trained_on(run: dict[str, Any]) -> float:
    """Of the domains that training text has."""
    loss: dict[str, float] = run["loss"]
    return statistics.mean(loss[name] for name in loss if name not in {"mean", *HELD_OUT})


def rows(rate: float) -> list[Row]:
    found = list[Row]()
    for budget, several in BUDGETS.items():
        for experts in several:
            pace = statistics.median(speeds()[str(experts)])
            tokens = round(budget * pace / ROUNDED) * ROUNDED
            more = (NO_POINTS, f"optimizer.learning_rate={rate}")
            name = f"equal_time_kernels_{budget}"
            for run in study.grid(experts, tokens, SEEDS, DATA, name, *more):
                loss = {**run["loss"], "trained on": _trained_on(run)}
                place = (DATA, budget, experts, int(run["seed"]), tokens)
                found.append(Row(*place, run["train_seconds"], loss))
    return found


def budgets_of(experts: int) -> tuple[int, ...]:
    return tuple(budget for budget, several in BUDGETS.items() if experts in several)


def figure(scanned: Sequence[dict[str, Any]], found: Sequence[Row]) -> dict[str, bytes]:
    """Losses by learning rate; differences to the dense twin by seconds."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    rates, *rest = figure.subplots(1, 3)
    _rates(rates, scanned)
    for axes, domain in zip(rest, MEANS, strict=True):
        study.panel(axes, found, domain)
    rest[0].legend(fontsize=8, frameon=False, labelcolor=PRINT.ink)
    return save(figure, "with_kernels", "equal_time")


def _rates(axes: Axes, scanned: Sequence[dict[str, Any]]) -> None:
    dress(axes, PRINT)
    axes.set_xscale("log")
    axes.set_xticks(RATES, [str(rate) for rate in RATES], fontsize=8)
    axes.minorticks_off()
    for experts in SCAN_TOKENS:
        colour = PRINT.colour(EXPERTS.index(experts))
        means = [_mean(scanned, rate, experts) for rate in RATES]
        label = "dense twin" if experts == 1 else f"{experts} experts"
        axes.plot(RATES, means, color=colour, marker="o", markersize=4, label=label)
    axes.set_title("three minutes, by learning rate", fontsize=10, loc="left", color=PRINT.ink)
    axes.set_ylabel("loss, domains of the training text", fontsize=9)
    axes.legend(fontsize=8, frameon=False, labelcolor=PRINT.ink)


def main() -> int:
    speeds()  # while the machine is cold and quiet
    scanned = scan()
    rate = min(RATES, key=lambda rate: _mean(scanned, rate, 1))
    found = rows(rate)
    with RESULTS.open("w", newline="") as file:
        study.write(found, file)
    for name, content in figure(scanned, found).items():
        (FOLDER / name).write_bytes(content)
    print("learning rate", rate)
    for domain in (*MEANS, *(name for name in found[0].loss if name not in MEANS)):
        for experts in EXPERTS[1:]:
            budgets = budgets_of(experts)
            line = [study.told(found, DATA, budget, experts, domain) for budget in budgets]
            since = study.overtakes(found, DATA, experts, domain, budgets)
            print(f"{domain}, E {experts}:", "; ".join(line))
            print("  below the dense twin from", since)
    return 0


if __name__ == "__main__":
    sys.exit(main())
