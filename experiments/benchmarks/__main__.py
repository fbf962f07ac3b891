"""`python -m experiments.benchmarks [name ...]`: measure, write `<name>.csv`, draw `<name>.png`."""

import csv
import importlib
import subprocess
import sys
import time
from pathlib import Path

from experiments.benchmarks.figures import draw
from experiments.benchmarks.timing import machine, one_thread

HERE = Path(__file__).parent
NAMES = (
    "layer",
    "step",
    "attention",
    "loss",
    "optimizer",
    "kernels",
    "generation",
    "threads",
    "pipeline",
    "scores",
    "tokens",
    "avx2",
    "overhead",
    "copies",
    "recipe",
)


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    if len(names) == 1:
        _measure(names[0])
        return 0
    for name in names or NAMES:  # apart: a peak of memory is that of its process so far
        subprocess.run([sys.executable, "-m", "experiments.benchmarks", name], check=True)
    return 0


def _measure(name: str) -> None:
    one_thread()
    start = time.perf_counter()
    rows = list(importlib.import_module(f"experiments.benchmarks.{name}").measure())
    _write(HERE / f"{name}.csv", rows)
    draw(name, rows, HERE)
    print(f"{name}: {len(rows)} rows in {time.perf_counter() - start:.0f} s", flush=True)
    (HERE / "machine.txt").write_text(machine() + "\n")


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
