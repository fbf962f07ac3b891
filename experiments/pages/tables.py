"""The tables of the studies, by their place below `experiments/`, and what they say was run."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.pages.words import listed
from experiments.paired import fixed_keys
from experiments.tables import finished, swept
from glam.analysis.paired import EXPERTS
from glam.reporting.study_figures import label_of
from glam.units import counted, in_message, ticks

STUDIES = Path(__file__).parents[1]
TOKENS = "training.tokens"
MANY = 6  # more budgets than these are told by the least and the most
BEFORE = "torch's operators"  # what computed before the kernels in C

Rows = list[dict[str, str]]


class NotTrainedError(Exception):
    """There is no such table yet."""


def path(name: str) -> Path:
    """Raises NotTrainedError where there is no such file."""
    file = STUDIES / name
    if not file.is_file():
        raise NotTrainedError(name)
    return file


def rows_of(name: str, *needed: str) -> Rows:
    """The finished runs of a study's table."""
    return finished(path(name), *needed)


def plain(name: str) -> Rows:
    """Of a table that is none of a study."""
    with path(name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def value_label(key: str, value: str) -> str:
    """A swept value as pages have it: `1 (dense)`, `2 M`."""
    if key == EXPERTS and value == "1":
        return "1 (dense)"
    if key == TOKENS:
        return in_message(ticks(float(value)))
    return f"`{value}`" if key == "model" else value


def phrase(key: str, value: str) -> str:
    """A value where its column is not beside it: `16 experts`, `2 M tokens`, `filtered`."""
    label = value_label(key, value)
    if key == EXPERTS:
        return "the dense twin" if value == "1" else f"{label} experts"
    if key == TOKENS:
        return f"{label} tokens"
    is_bare = _is_number(value) or value in ("True", "False")
    return f"{label_of(key)} {label}" if is_bare else label


def sorted_values(key: str, rows: Sequence[dict[str, str]]) -> list[str]:
    """Numbers by size, models by their parameters, words as the table has them."""
    found = list(dict.fromkeys(row[key] for row in rows))
    if key == "model":
        size = {row[key]: float(row["parameters/active"]) for row in rows}
        return sorted(found, key=size.__getitem__)
    return sorted(found, key=float) if all(map(_is_number, found)) else found


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def ran(name: str) -> str:
    """What was run, from the columns of the table: sizes, tokens, recipes, seeds, hours, machine,
    and the cells that are missing."""
    rows = rows_of(name, "seed", "tokens")
    seeds = len({row["seed"] for row in rows})
    parts = [*_models(rows), *_swept(rows), _tokens(rows)]
    parts += [f"{counted(seeds, 'paired seed')}, {counted(len(rows), 'run')}"]
    file = name.rpartition("/")[2]
    return f"`{file}`: {'; '.join(parts)}. {_machine(rows)}{_missing(rows)}"


def _models(rows: Rows) -> Iterator[str]:
    """Names and active parameters of the dense or only model of each size."""
    active: dict[str, float] = {}
    for row in rows:
        if row.get("parameters/active"):
            model = row.get("model") or row["run"].split("-")[0]
            active[model] = min(active.get(model, math.inf), float(row["parameters/active"]))
    if active:
        yield listed(
            f"`{model}` ({in_message(ticks(size))} active parameters)"
            for model, size in sorted(active.items(), key=lambda item: item[1])
        )


def _swept(rows: Rows) -> Iterator[str]:
    """The values of every key, and what the runs' names say of those that are not swept."""
    keys = [key for key in swept(rows) if key not in ("seed", "model", TOKENS)]
    for key in keys:
        values = [value_label(key, value) for value in sorted_values(key, rows)]
        yield f"{label_of(key)} {listed(values)}"
    _, experts, recipe, *_ = (*rows[0].get("run", "").split("-"), "", "")
    if EXPERTS not in keys and experts[:-1].isdigit():
        yield phrase(EXPERTS, experts[:-1])
    if "data" not in keys and recipe:
        yield f"`data={recipe}`"


def _tokens(rows: Rows) -> str:
    found = list(dict.fromkeys(ticks(t) for t in sorted(float(row["tokens"]) for row in rows)))
    told = listed(found) if len(found) <= MANY else f"{found[0]} to {found[-1]}"
    return f"{in_message(told)} tokens"


def _machine(rows: Rows) -> str:
    hours = sum(float(row.get("train_seconds") or 0) for row in rows) / 3600
    told = [f"{hours:.1f} hours of training, one run after the other"]
    for column in ("processor", "kernels", "commit"):
        values = sorted({row[column] for row in rows if row.get(column)})
        shown = [f"`{one}`" if column == "commit" else one for one in values]
        told += [f"{column} {listed(shown)}"] if shown else []
    return f"{'; '.join(told)}."


def program(*names: str) -> str:
    """Which program trained some tables: that before kernels, the one with them, or both."""
    old = {(row.get("kernels") or BEFORE) == BEFORE for name in names for row in plain(name)}
    if old == {True, False}:
        return "before and with kernels"
    return "before kernels" if True in old else "with kernels"


def _missing(rows: Rows) -> str:
    """Cells of the grid that have no finished run."""
    keys = swept(rows)
    there = {tuple(row[key] for key in keys) for row in rows}
    every = math.prod(len({row[key] for row in rows}) for key in keys)
    absent = every - len(there)
    return f" **{absent} of {counted(every, 'run')} of the grid are missing.**" if absent else ""


def heads(rows: Rows, keys: Sequence[str]) -> list[str]:
    """The other swept keys, then those that are compared."""
    return [label_of(key) for key in (*fixed_keys(rows, keys), *keys)]
