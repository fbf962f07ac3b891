"""`python -m experiments.peers [layer] [step] [generation] [rounds=N]`: rows, and who wins each.

Without a name: all three, each in a process of its own. `table`: prints the table anew. `make
peers` builds the environment with the pinned peers (`requirements.txt`) and runs this.
"""

import csv
import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("layer", "step", "generation")
PACKAGES = ("torch", "transformers", "torchtitan", "llama-cpp-python")
TIE = 0.03  # of the time: closer than this is no difference here
Row = dict[str, str]


def main(arguments: list[str]) -> int:
    words = [word for word in arguments if "=" not in word]
    values = dict(word.split("=", 1) for word in arguments if "=" in word)
    if wrong := [word for word in words if word not in (*NAMES, "table")]:
        print(f"no {wrong[0]!r}; there are {', '.join(NAMES)}, table", file=sys.stderr)
        return 2
    if len(words) == 1 and words != ["table"]:
        _measure(words[0], int(values.get("rounds", "5")))
    elif words != ["table"]:
        for name in words or NAMES:  # apart: what one compiles or keeps is not another's
            command = [sys.executable, "-m", "experiments.peers", name, *_options(values)]
            subprocess.run(command, check=True)
    _tell([row for name in NAMES for row in _read(name)])
    return 0


def _options(values: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _measure(name: str, rounds: int) -> None:
    from experiments.benchmarks.timing import machine, one_thread
    from glam.kernels.kernel_set import kernel_set

    one_thread()
    about = {"machine": machine(), "versions": _versions()}
    found: list[dict[str, object]] = []
    for row in importlib.import_module(f"experiments.peers.{name}").measure(rounds):
        found.append(row | {"kernels": kernel_set(str(row["dtype"]))} | about)
        _write(name, found)  # as they come: compiling alone takes minutes


def _versions() -> str:
    found: list[str] = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)


def _write(name: str, rows: list[dict[str, object]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (HERE / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def _read(name: str) -> list[Row]:
    if not (HERE / f"{name}.csv").exists():
        return []
    with (HERE / f"{name}.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def table(rows: list[Row]) -> Iterator[str]:
    """Who wins each piece of work, and by what all others lose: the times of the winner's."""
    yield "| work | shape | type | wins | ms | the others, times as long |"
    yield "| --- | --- | --- | --- | --- | --- |"
    works = dict.fromkeys((row["work"], row["shape"], row["dtype"]) for row in rows)
    for work in works:
        mine = [row for row in rows if (row["work"], row["shape"], row["dtype"]) == work]
        ranked = sorted(mine, key=lambda row: float(row["ms"]))
        best = float(ranked[0]["ms"])
        tied = [row for row in ranked if float(row["ms"]) <= (1 + TIE) * best]
        winner = " = ".join(row["candidate"] for row in tied)
        others = ", ".join(
            f"{row['candidate']} {float(row['ms']) / best:.2f}" for row in ranked if row not in tied
        )
        yield f"| {' | '.join(work)} | {winner} | {best:.3g} | {others} |"


def _tell(rows: list[Row]) -> None:
    for line in table(rows):
        print(line)
    ours = [line for line in table(rows) if "| glam |" not in line][2:]
    print(f"\nnot won by glam alone: {len(ours)}")
    for line in ours:
        print(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
