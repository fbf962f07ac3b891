"""`python -m experiments.digits WHAT`: measure, and write `<WHAT>.csv`.

operations          the largest difference of each operation from float64, by set of kernels
threads             whether two threads, and gradients of several passes, give the bits of one
runs [seeds=N]      300 steps with each set of kernels over seeds (5), and `noise.csv`: differences
                    beside what a seed changes
same                300 steps with two threads, and killed and resumed, beside one undisturbed
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from glam.config import ROOT, RunConfig
from glam.machine.processor import processor
from glam.machine.resources import pin_threads, resolve

HERE = Path(__file__).parent
MKL = "MKL_CBWR"
SETS = ("on", "avx2", "off")  # of GLAM_KERNELS
Row = dict[str, object]


def main(arguments: list[str]) -> int:
    words = [word for word in arguments if "=" not in word]
    values = dict(word.split("=", 1) for word in arguments if "=" in word)
    if words in (["operations", "here"], ["threads", "here"]):  # a process for a set of kernels
        return _here(words[0])
    match words:
        case ["operations"]:
            _keep("operations", (row for name in SETS for row in _of_set("operations", name)))
        case ["threads"]:
            _keep("threads", _threads())
        case ["runs"]:
            _runs(int(values.get("seeds", "5")))
        case ["same"]:
            from experiments.digits.runs import same_digits

            with tempfile.TemporaryDirectory() as folder:
                _keep("same", same_digits(Path(folder)))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def _here(what: str) -> int:
    if what == "operations":
        from experiments.digits.operations import measure
    else:
        from experiments.digits.threads import measure

    for row in measure():
        print(json.dumps(row), flush=True)
    return 0


def _threads() -> Iterator[Row]:
    """As a run sets MKL, and as MKL is by itself."""
    pin_threads(resolve(RunConfig()))
    as_in_a_run = os.environ.get(MKL, "")
    for kernels in SETS:
        for mode in dict.fromkeys((as_in_a_run, "")):
            for row in _of_set("threads", kernels, {MKL: mode}):
                yield {MKL: mode, **row}


def _of_set(what: str, kernels: str, others: Mapping[str, str] = {}) -> Iterator[Row]:
    """Raises RuntimeError with the last words of a process that fails."""
    command = [sys.executable, "-m", "experiments.digits", what, "here"]
    environment = {**os.environ, "GLAM_KERNELS": kernels, **others}
    if not environment.get(MKL):
        environment.pop(MKL, None)
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"GLAM_KERNELS={kernels}: {ran.stderr[-1000:]}")
    for line in ran.stdout.splitlines():
        yield {"GLAM_KERNELS": kernels, **json.loads(line)}


def _runs(seeds: int) -> None:
    from experiments.digits.runs import of_seeds, within_noise

    with tempfile.TemporaryDirectory() as folder:
        rows = _keep("runs", of_seeds(Path(folder), seeds))
    _keep("noise", within_noise(rows))


def _keep(name: str, rows: Iterable[Row]) -> list[Row]:
    """Prints and writes them as they come: some take minutes."""
    found: list[Row] = []
    for row in rows:
        print(" ".join(f"{key}={_short(value)}" for key, value in row.items()), flush=True)
        found.append(row | {"machine": processor().name})
        columns = list(dict.fromkeys(column for row in found for column in row))
        with (HERE / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: _short(v) for k, v in row.items()} for row in found)
    return found


def _short(value: object) -> object:
    return f"{value:.8g}" if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
