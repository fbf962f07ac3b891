"""`python -m experiments.scaling_law.independent <python>`: our fit beside that of another package.

`<python>` is of an environment that has `requirements.txt`. The package, simple-scaling-laws, fits
a law in size and tokens and has no term for experts, so it gets the dense runs and those of 16
experts of `results.csv` apart, and so does our fit. The largest size at the most tokens is held
out. Its forms and ours are pairs of one formula, but it fits losses where we fit their logarithms
with Huber's weights, and leaves every floor free. Writes independent.csv.
"""

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.scaling_law.tables import known
from experiments.tables import refuse, write
from glam.analysis.forecast import predict_cells, split_of
from glam.analysis.scaling_law import Runs, fit

HERE = Path(__file__).parent
PAIRS = {"separable-power": "chinchilla", "skaling-joint-power": "power_mean"}
COLUMNS = (
    "experts", "law", "form", "measured", "theirs", "their_low", "their_high", "ours", "our_low",
    "our_high", "their_floor", "their_floor_low", "their_floor_high", "our_floor", "notes",
)  # fmt: skip


def rows(python: str) -> Iterator[dict[str, str]]:
    runs = known()
    for experts in (1, 16):
        part = runs.where(runs.experts == experts)
        split = split_of(part)
        for law, form in PAIRS.items():
            theirs = _theirs(python, law, part.where(split.kept), part.where(~split.kept))
            yield _row(experts, law, form, theirs, part, split.kept)


def _row(
    experts: int, law: str, form: str, theirs: dict[str, Any], part: Runs, kept: Any
) -> dict[str, str]:
    ours = fit(part.where(kept), form)
    [cell] = predict_cells(ours, part.where(~kept))
    low, middle, high = theirs["predictions"][0]
    numbers = (
        cell.measured, middle, low, high, cell.predicted, *cell.interval,
        theirs["constants"]["E"], *theirs["intervals"]["E"], float(ours.constants[0]),
    )  # fmt: skip
    told = (str(experts), law, form, *(f"{n:.4f}" for n in numbers), " ".join(theirs["notes"]))
    return dict(zip(COLUMNS, told, strict=True))


def _theirs(python: str, law: str, kept: Runs, rest: Runs) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("runs.csv", "points.csv")]
        for file, runs in zip(files, (kept, rest.where(rest.seed == rest.seed[0])), strict=True):
            _write_runs(file, runs)
        command = [python, str(HERE / "independent_fit.py"), law, *map(str, files)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        refuse(f"{python} cannot fit by simple-scaling-laws: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def _write_runs(file: Path, runs: Runs) -> None:
    names = (
        "training_run_id", "optimizer_seed", "model_size__active", "dataset_size__tokens",
        "test_loss__mean",
    )  # fmt: skip
    columns = (np.arange(len(runs.loss)), runs.seed, runs.active, runs.tokens, runs.loss)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(names)
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).exists():
        refuse(
            "name the python of an environment that has experiments/scaling_law/requirements.txt"
        )
    found = list(rows(arguments[0]))
    write(HERE / "independent.csv", COLUMNS, found)
    print(*(" ".join(row.values()) for row in found), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
