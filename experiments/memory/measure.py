"""`python -m experiments.memory.measure`: predicted against measured peak memory of training.

Each configuration takes three steps in a process of its own. Measured is the most that was
resident, over what the process held when torch and glam.model were imported, plus the 550 MB that
all imports of a training process take (glam/accounting/memory.py counts them in `other`).
"""

import csv
import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.progress import track

from glam.accounting.memory import memory
from glam.accounting.paper import PAPER_MODELS
from glam.config import (
    AdafactorConfig,
    AdamWConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
    from_mapping,
)

RESULTS = Path(__file__).with_name("results.csv")
IMPORTS = 550  # MB
TINY: dict[str, Any] = {}
SMALL = {"vocab_size": 8192, "d_model": 256, "d_ff": 1024}
MEDIUM = {"vocab_size": 32768, "num_layers": 6, "d_model": 512, "d_ff": 2048, "num_heads": 8}
PAPER = {**dataclasses.asdict(PAPER_MODELS["glam_100m"].config()), "vocab_size": 32768}
PAPER_16E = {
    **dataclasses.asdict(PAPER_MODELS["glam_100m64e"].config()),
    "vocab_size": 32768,
    "num_experts": 16,
}
BFLOAT16, FLOAT32 = "bfloat16", "float32"
# name, model, rows, length, precision, rematerialize, optimizer
CONFIGURATIONS: list[tuple[str, dict[str, Any], int, int, str, bool, str]] = [
    ("tiny", TINY, 8, 128, BFLOAT16, False, "adamw"),
    ("tiny", TINY, 64, 128, FLOAT32, False, "adamw"),
    ("tiny", TINY, 64, 128, BFLOAT16, False, "adamw"),
    ("tiny", TINY, 8, 1024, BFLOAT16, False, "adamw"),
    ("tiny", TINY, 8, 1024, FLOAT32, False, "adamw"),
    ("tiny dense", {"num_experts": 1}, 64, 128, BFLOAT16, False, "adamw"),
    ("tiny E 64", {"num_experts": 64}, 64, 128, BFLOAT16, False, "adamw"),
    ("tiny V 256,000", {"vocab_size": 256_000, "num_experts": 4}, 8, 512, FLOAT32, False, "adamw"),
    ("tiny V 256,000", {"vocab_size": 256_000}, 8, 512, BFLOAT16, False, "adafactor"),
    ("small", SMALL, 16, 128, BFLOAT16, False, "adamw"),
    ("small", SMALL, 16, 128, FLOAT32, False, "adafactor"),
    ("small dense", {**SMALL, "num_experts": 1}, 32, 256, BFLOAT16, False, "adamw"),
    ("small E 64", {**SMALL, "num_experts": 64}, 16, 128, FLOAT32, False, "adamw"),
    ("small L 12", {**SMALL, "num_layers": 12}, 16, 256, BFLOAT16, True, "adamw"),
    ("small capacity", {**SMALL, "dispatcher": "capacity"}, 8, 256, BFLOAT16, False, "adamw"),
    (
        "small capacity E 64",
        {**SMALL, "dispatcher": "capacity", "num_experts": 64},
        8,
        256,
        FLOAT32,
        False,
        "adamw",
    ),
    ("medium E 8", {**MEDIUM, "num_experts": 8}, 4, 512, BFLOAT16, False, "adamw"),
    ("medium E 8", {**MEDIUM, "num_experts": 8}, 4, 512, BFLOAT16, True, "adafactor"),
    ("medium E 8", {**MEDIUM, "num_experts": 8}, 8, 512, FLOAT32, False, "adamw"),
    ("medium E 8", {**MEDIUM, "num_experts": 8}, 8, 512, FLOAT32, True, "adamw"),
    ("paper 0.1B", PAPER, 1, 1024, BFLOAT16, False, "adafactor"),
    ("paper 0.1B/16E", PAPER_16E, 2, 1024, BFLOAT16, True, "adafactor"),
]


def configured(row: tuple[str, dict[str, Any], int, int, str, bool, str]) -> RunConfig:
    _, model, rows, length, _, again, optimizer = row
    return RunConfig(
        model=from_mapping(ModelConfig, {**dataclasses.asdict(ModelConfig()), **model}),
        training=TrainingConfig(batch_size=rows, sequence_length=length, rematerialize=again),
        optimizer=AdafactorConfig() if optimizer == "adafactor" else AdamWConfig(),
    )


def main() -> None:
    rows: list[dict[str, object]] = []
    for index, row in enumerate(track(CONFIGURATIONS, "measure")):
        command = [sys.executable, "-m", "experiments.memory.measure", str(index)]
        said = subprocess.check_output(command, text=True)
        measured = int(said) + IMPORTS
        predicted = memory(configured(row), row[4]).total / 1e6
        names = ("model", "overrides", "rows", "length", "precision", "rematerialize", "optimizer")
        rows.append(
            {
                **dict(zip(names, row, strict=True)),
                "overrides": json.dumps(row[1]),
                "measured_mb": measured,
                "predicted_mb": round(predicted),
                "deviation": f"{predicted / measured - 1:+.3f}",
            }
        )
        print(*(f"{key} {value}" for key, value in rows[-1].items() if key != "overrides"))
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measure(index: int) -> int:
    """Megabytes, of three steps in this process."""
    import psutil
    import torch

    from glam.model import Glam
    from glam.resources import keep_freed_memory
    from glam.training.optimizers import build_optimizer

    row = CONFIGURATIONS[index]
    config = configured(row)
    torch.set_num_threads(1)
    keep_freed_memory()
    before = psutil.Process().memory_info().rss
    dtype = torch.bfloat16 if row[4] == BFLOAT16 else torch.float32
    model = Glam(config.model, dtype=dtype, rematerialize=config.training.rematerialize)
    optimizer = build_optimizer(config.optimizer, model)
    sizes = (config.training.batch_size, config.training.sequence_length)
    segments = (torch.arange(sizes[1]) >= sizes[1] // 2).long().expand(sizes)
    for _ in range(3):
        tokens = torch.randint(0, config.model.vocab_size, sizes)
        output = model.loss(tokens, tokens, segments)
        (output.loss + output.balance_loss).backward()
        optimizer.step()
        optimizer.zero_grad()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return round((peak - before) / 1e6)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(int(sys.argv[1])))
    else:
        main()
