"""`python -m experiments.throughput.measure`: the tokens per second that `task.calibrate=true`
predicts from a few seconds of steps, against those of training itself. Writes results.csv.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from glam.config import ROOT
from glam.progress import track

RESULTS = Path(__file__).parent / "results.csv"
FEW = (
    "evaluation=held_out",
    "evaluation.points=0",
    "evaluation.tokens_per_domain=1024",
    "logger=none",
    "rerun=true",
)
WIDE = ("model.d_model=128", "model.d_ff=512")
LARGE = ("model.d_model=256", "model.d_ff=1024", "training.sequence_length=256")
# What is changed of the default line, and how many tokens make half a minute of it.
CASES: dict[str, tuple[tuple[str, ...], int]] = {
    "default": ((), 600_000),
    "dense": (("model.num_experts=1",), 600_000),
    "E 64": (("model.num_experts=64",), 400_000),
    "float32": (("hardware.precision=float32",), 500_000),
    "capacity": (("model.dispatcher=capacity",), 300_000),
    "rematerialized": (("training.rematerialize=true",), 400_000),
    "Adafactor": (("optimizer=adafactor",), 500_000),
    "64 rows": (("training.batch_size=64",), 600_000),
    "M 128, L 12": ((*WIDE, "model.num_layers=12"), 100_000),
    "M 256, L 8, E 8": ((*LARGE, "model.num_layers=8", "model.num_experts=8"), 60_000),
}


def main() -> None:
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case", "overrides", "predicted", "measured", "deviation"])
        for name in track(CASES, "measure", len(CASES)):
            overrides, tokens = CASES[name]
            line = [*overrides, f"training.tokens={tokens}"]
            plan = _said("task=plan", "task.format=json", "task.calibrate=true", *line)
            predicted = json.loads(plan)["tokens_per_second"]
            measured = _trained(line)
            deviation = f"{predicted / measured - 1:+.3f}"
            row = [name, " ".join(line), f"{predicted:.0f}", f"{measured:.0f}", deviation]
            writer.writerow(row)
            file.flush()
            print(name, *row[2:])


def _said(*words: str) -> str:
    command = [sys.executable, "run.py", *words]
    return subprocess.check_output(command, cwd=ROOT, text=True)


def _trained(line: list[str]) -> float:
    said = _said(*line, *FEW).splitlines()
    (report,) = (words.split()[1] for words in said if words.startswith("report"))
    summary: dict[str, Any] = json.loads(Path(report).with_name("summary.json").read_text())
    return summary["tokens_per_second"]


if __name__ == "__main__":
    main()
