"""`python -m experiments.growth WHAT`: measure, write `<WHAT>.csv`, draw, and say what stands out.

sizes [AXIS ...] [precision=TYPE] [rounds=N]
    step time and memory along tokens, width, experts, length, vocabulary, threads (none: all of
    them). Rows that are not measured stay as they are.
parts [precision=TYPE]  parts of a step by width and length, beside their own FLOPs (float32)
pace [minutes=N]        a run's pace by the minute of its CPU time (15)
run_time [kernels=SET]  where the time of `make run` goes (on)
install [rounds=N]      the environment of `make run`, by pip and by uv (2)
drawn                   the figures anew, from the rows that are there
"""

import csv
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from glam.config import ROOT

HERE = Path(__file__).parent
Row = dict[str, object]
DEPARTS = 0.15  # from the line, from where on it is named


def main(arguments: list[str]) -> int:
    words = [word for word in arguments if "=" not in word]
    values = dict(word.split("=", 1) for word in arguments if "=" in word)
    known = {
        "sizes": _sizes,
        "parts": _parts,
        "pace": _pace,
        "run_time": _run_time,
        "install": _install,
    }
    if words == ["drawn"]:
        _draw("sizes", _read("sizes"))
        _draw("pace", _read("pace"))
        return 0
    if not words or words[0] not in known:
        print(__doc__, file=sys.stderr)
        return 2
    return known[words[0]](words[1:], values)


def _sizes(axes: list[str], values: dict[str, str]) -> int:
    from experiments.benchmarks.timing import one_thread
    from experiments.growth.sizes import AXES, TYPES, measure

    every = (*AXES, "threads")
    types = [values["precision"]] if "precision" in values else list(TYPES)
    if wrong := [n for n in axes if n not in every] + [t for t in types if t not in TYPES]:
        print(f"no {wrong[0]!r}; there are {', '.join((*every, *TYPES))}", file=sys.stderr)
        return 2
    one_thread()
    for name in axes or every:  # kept one by one: all of them take a quarter of an hour
        turns = int(values.get("rounds", "5"))
        rows = list(measure([name], [t for t in TYPES if t in types], turns))
        _keep("sizes", rows, ("axis", "precision"))
        for row in rows:
            _tell(row)
    _draw("sizes", _read("sizes"))
    return 0


def _parts(_: list[str], values: dict[str, str]) -> int:
    from experiments.benchmarks.timing import one_thread
    from experiments.growth.parts import measure
    from experiments.growth.sizes import TYPES, Precision

    one_thread()
    wanted = [values.get("precision", "float32")]
    chosen: list[Precision] = [name for name in TYPES if name in wanted]
    for precision in chosen:
        _keep("parts", list(measure(precision)), ("precision",))
    return 0 if chosen else 2


def _tell(row: Row) -> None:
    for column, what in (("departure", "time"), ("memory_departure", "memory")):
        found = row.get(column)
        if isinstance(found, float) and abs(found) > DEPARTS:
            print(f"{row['axis']} {row['value']} {row['precision']}: {what} {found:+.0%}")


def _pace(_: list[str], values: dict[str, str]) -> int:
    from experiments.growth.pace import measure, verdict

    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(Path(folder), float(values.get("minutes", "15"))))
    _keep("pace", rows, ())
    _draw("pace", _read("pace"))
    return _say(verdict(rows))


def _run_time(_: list[str], values: dict[str, str]) -> int:
    from experiments.growth.run_time import measure, verdict

    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(Path(folder), values.get("kernels", "on")))
    _keep("run_time", rows, ("kernels",))
    return _say(verdict(rows))


def _install(_: list[str], values: dict[str, str]) -> int:
    from experiments.growth.install import measure

    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".venv-of-install-") as folder:
        rows = list(measure(Path(folder), int(values.get("rounds", "2"))))
    _keep("install", rows, ())
    return _say(f"{r['way']}: {r['seconds']:.0f} s, CPU {r['cpu_seconds']:.0f} s" for r in rows)


def _say(lines: Iterable[str]) -> int:
    for line in lines:
        print(line)
    return 0


def _read(name: str) -> list[Row]:
    if not (HERE / f"{name}.csv").exists():
        return []
    with (HERE / f"{name}.csv").open(newline="") as lines:
        return [dict(row) for row in csv.DictReader(lines)]


def _keep(name: str, rows: list[Row], key: tuple[str, ...]) -> None:
    """In place of the rows with the same values of `key`; without a key, of all."""
    from experiments.benchmarks.timing import machine

    new = {tuple(str(row[k]) for k in key) for row in rows}
    kept = [row for row in _read(name) if tuple(str(row[k]) for k in key) not in new]
    every = kept + [row | {"machine": machine()} for row in rows]
    columns = list(dict.fromkeys(column for row in every for column in row))
    with (HERE / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in every:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def _draw(name: str, rows: list[Row]) -> None:
    from experiments.growth import figures

    if rows:
        getattr(figures, name)(rows, HERE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
