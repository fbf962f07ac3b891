"""`python -m experiments.scaling_law.grid`: the cells of `experiment=scaling_law/full` and what
they cost, by the median rate of each model in the committed tables (one thread, two runs at a
time). Prints a table in Markdown."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from experiments.scaling_law.tables import KNOWN, NEW
from experiments.tables import finished
from glam.analysis.scaling_law import Runs

FULL = Path(__file__).parents[2] / "conf" / "experiment" / "scaling_law" / "full.yaml"
CORES = 2
SECONDS_AROUND = 15  # of a run: its start and the evaluation of what it left
MEASURED = ("model", "model.num_experts", "parameters/active", "tokens", "train_seconds")

Row = dict[str, str]


def swept() -> dict[str, list[str]]:
    """Values by key."""
    params = OmegaConf.load(FULL).hydra.sweeper.params
    return {str(key): str(value).split(",") for key, value in params.items()}


def measured() -> list[Row]:
    return [row for file in (KNOWN, NEW) for row in finished(file, *MEASURED)]


def planned() -> Runs:
    """The runs of the grid, without losses (all are 1)."""
    keys, rows = swept(), measured()
    active = {(row["model"], row["model.num_experts"]): row["parameters/active"] for row in rows}
    grid = [
        (float(active[model, experts]), float(experts), float(tokens), float(seed))
        for model in keys["model"]
        for experts in keys["model.num_experts"]
        for tokens in keys["training.tokens"]
        for seed in keys["seed"]
    ]
    size, count, tokens, seed = np.array(grid).T
    return Runs(
        active=size, experts=count, tokens=tokens, loss=np.ones(len(grid)), flops=2 * size,
        seed=seed.astype(np.int64),
    )  # fmt: skip


def seconds(rows: Sequence[Row], model: str, experts: str) -> float:
    """Of one core for a million tokens."""
    mine = [row for row in rows if (row["model"], row["model.num_experts"]) == (model, experts)]
    return float(np.median([float(r["train_seconds"]) / float(r["tokens"]) for r in mine])) * 1e6


def table() -> str:
    keys, rows = swept(), measured()
    counts = keys["model.num_experts"]
    tokens = sum(float(one) for one in keys["training.tokens"]) / 1e6 * len(keys["seed"])
    around = SECONDS_AROUND * len(keys["training.tokens"]) * len(keys["seed"]) * len(counts)
    lines = [f"| core seconds for 1 M tokens | {' | '.join(counts)} | hours of two cores |"]
    lines.append("| --- " * (len(counts) + 2) + "|")
    total = 0.0
    for model in keys["model"]:
        each = [seconds(rows, model, count) for count in counts]
        hours = (tokens * sum(each) + around) / CORES / 3600
        total += hours
        lines.append(f"| {model} | {' | '.join(f'{one:.0f}' for one in each)} | {hours:.2f} |")
    lines.append(f"| all | {' | '.join('' for _ in counts)} | {total:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
