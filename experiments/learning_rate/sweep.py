"""Which peak learning rate is best for a size and a budget: grids of rates a factor of two apart,
walked until the best lies between two that are worse.

Each size and budget is a grid of `run.py` (dense and 16 experts, seeds of their own), so what was
trained is skipped and what was cut off goes on. `results.csv` grows by a grid at a time.
"""

import csv
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.scaling_law.grid import measured, seconds
from experiments.tables import finished, write
from glam.config import ROOT
from glam.machine.processor import processor

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
RUNS = ROOT / "runs" / "learning_rate"
MODELS = ("glam_nano", "glam_micro", "glam_tiny", "glam_mini")
BUDGETS = (500_000, 1_000_000, 2_000_000, 4_000_000)
# Tokens, of sizes whose 4 M would take half an hour each: wide, or all in calls.
MOST = {"glam_mini": 2_000_000, "glam_nano": 2_000_000}
EXPERTS, SEEDS = (1, 16), (100, 101)
LATTICE = tuple(0.00075 * 2**k for k in range(9))  # 0.00075 to 0.192
FIRST = {"glam_nano": 0.048, "glam_micro": 0.024, "glam_tiny": 0.024, "glam_mini": 0.012}
RATES_EACH = 3.6  # rates that a cell comes to need, for the cost
CORES, SECONDS_AROUND = 2, 12
ASIDE = ("evaluation=held_out", "evaluation.points=1", "logger=csv")
COLUMNS = ("model", "parameters", "tokens", "experts", "rate", "seed", "loss", "train_seconds")

Row = dict[str, str]


def cost() -> Iterator[str]:
    """A table in Markdown: hours of two cores, by the rates of the committed tables."""
    rows, total = measured(), 0.0
    yield "| model | runs | hours of two cores |"
    yield "| --- | --- | --- |"
    for model in MODELS:
        budgets = [tokens for tokens in BUDGETS if is_planned(model, tokens)]
        runs = RATES_EACH * len(budgets) * len(EXPERTS) * len(SEEDS)
        training = sum(
            seconds(rows, model, str(experts)) * sum(budgets) / 1e6 for experts in EXPERTS
        )
        hours = (RATES_EACH * len(SEEDS) * training + runs * SECONDS_AROUND) / CORES / 3600
        total += hours
        yield f"| {model} | {runs:.0f} | {hours:.2f} |"
    yield f"| all | | {total:.2f} |"


def sweep(models: Sequence[str], budgets: Sequence[int]) -> None:
    """Cheap ones first. Raises CalledProcessError where a grid fails."""
    for tokens in budgets:
        for model in models:
            if is_planned(model, tokens):
                walk(model, tokens)


def is_planned(model: str, tokens: int) -> bool:
    return tokens <= MOST.get(model, tokens)


def walk(model: str, tokens: int) -> None:
    """Until no seed of the dense twins or of the sparse ones is best at an end."""
    place = LATTICE.index(first_rate(rows_of(RESULTS) if RESULTS.exists() else [], model, tokens))
    low, high = place - 1, place + 1
    while True:
        rows = trained(model, tokens, LATTICE[low : high + 1])
        keep(rows)
        twins = itertools.product(EXPERTS, SEEDS)
        best = {LATTICE.index(best_rate(rows, experts, seed)) for experts, seed in twins}
        if low in best and low > 0:
            low -= 1
        elif high in best and high < len(LATTICE) - 1:
            high += 1
        else:
            return


def first_rate(rows: Sequence[Row], model: str, tokens: int) -> float:
    """Where to begin: at the best rate of the most tokens below these, whichever twin had it."""
    fewer = [row for row in rows if row["model"] == model and int(row["tokens"]) < tokens]
    if not fewer:
        return FIRST[model]
    most = max(int(row["tokens"]) for row in fewer)
    near = [row for row in fewer if int(row["tokens"]) == most]
    return float(min(near, key=lambda row: float(row["loss"]))["rate"])


def best_rate(rows: Sequence[Row], experts: int, seed: int) -> float:
    mine = [row for row in rows if row["experts"] == str(experts) and row["seed"] == str(seed)]
    return float(min(mine, key=lambda row: float(row["loss"]))["rate"])


def trained(model: str, tokens: int, rates: Sequence[float]) -> list[Row]:
    name = f"{model}-{tokens}"
    line = [
        *(f"model={model}", f"training.tokens={tokens}", f"study.name={name}"),
        f"model.num_experts={','.join(map(str, EXPERTS))}",
        f"optimizer.learning_rate={','.join(f'{rate:g}' for rate in rates)}",
        *(f"seed={','.join(map(str, SEEDS))}", f"runs_dir={RUNS}", *ASIDE),
    ]
    print(" ".join(("python run.py -m", *line)), flush=True)
    subprocess.run([sys.executable, "run.py", "-m", *line], cwd=ROOT, check=True)
    table = RUNS / "studies" / name / "study.csv"
    swept = ("model.num_experts", "optimizer.learning_rate", "seed")
    found = finished(table, *swept, "parameters/active", "loss/mean", "train_seconds")
    size = next(row["parameters/active"] for row in found if row[swept[0]] == "1")
    return [
        {
            **{"model": model, "parameters": size, "tokens": str(tokens)},
            **{"experts": row[swept[0]], "rate": row[swept[1]], "seed": row[swept[2]]},
            **{"loss": row["loss/mean"], "train_seconds": row["train_seconds"]},
            "machine": processor().name,
        }
        for row in found
    ]


def keep(rows: Sequence[Row]) -> None:
    """In place of the rows of the same runs."""
    new = {tuple(row[key] for key in COLUMNS[:6]) for row in rows}
    before = rows_of(RESULTS) if RESULTS.exists() else []
    kept = [row for row in before if tuple(row[key] for key in COLUMNS[:6]) not in new]
    write(RESULTS, [*COLUMNS, "machine"], [*kept, *rows])


def rows_of(file: Path) -> list[Row]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))
