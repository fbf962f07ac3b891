"""Paired differences of a study's table: of held-out losses, and of the scores of tasks."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.pages.tables import (
    NotTrainedError,
    Rows,
    heads,
    phrase,
    plain,
    rows_of,
    sorted_values,
    value_label,
)
from experiments.pages.words import YES, Claim, Effect, Good, answer, listed, markdown
from experiments.paired import Cell, fixed_keys, paired, value_of
from experiments.tables import domains
from glam.analysis.paired import corrected, holm_tests
from glam.reporting.study_figures import label_of
from glam.units import counted, fixed, signed

TASKS = "tasks/"
LOADS = ("load/busiest", "load/idlest", "load/dropped")
Found = Mapping[tuple[Cell, str], Sequence[float]]


def losses(rows: Rows) -> dict[str, str]:
    """Columns by the names of their domains, the mean first."""
    return {column: column.removeprefix("loss/") for column in domains(rows)}


def tasks(rows: Rows) -> dict[str, str]:
    """Columns of the scores that all runs have, by task."""
    columns = [name for name in rows[0] if name.startswith(TASKS) and all(r[name] for r in rows)]
    columns.sort(key=lambda column: column != f"{TASKS}mean")  # the mean first, as of losses
    return {column: column.rpartition("/")[2] for column in columns}


def differences(name: str, key: str, baseline: str) -> str:
    """The baseline's held-out losses, below them the paired differences of the others to it with
    their 95 % t intervals, and what the numbers are."""
    rows = rows_of(name, "seed", "id", "loss/mean")
    made = _table(rows, key.split(","), baseline, losses(rows))
    words = (
        "Held-out loss, nats per token: that of the first line of each group, then the paired "
        f"difference of the others to it with its 95 % t interval over the seeds. {made[1]}"
    )
    line = f"(`python -m experiments.paired experiments/{name} {key} {baseline}`)"
    return f"{words}\n{line}\n\n{made[0]}"


def scores(name: str, key: str, baseline: str) -> str:
    """The same of the tasks' scores, where the table has them."""
    rows = with_mean_score(rows_of(name, "seed", "id"))
    columns = tasks(rows)
    if not columns:
        return ""
    table, words = _table(rows, key.split(","), baseline, columns)
    return (
        "Scores of the tasks that were made of held-out text (1: every item right): higher is "
        f"better. {words}\n\n{table}"
    )


def with_mean_score(rows: Rows) -> Rows:
    """The mean over the tasks beside them, as losses have it."""
    columns = list(tasks(rows))
    if not columns:
        return rows
    return [
        {**row, f"{TASKS}mean": str(np.mean([float(row[column]) for column in columns]))}
        for row in rows
    ]


def _table(
    rows: Rows, keys: Sequence[str], baseline: str, columns: Mapping[str, str]
) -> tuple[str, str]:
    found = paired(rows, keys, baseline, list(columns))
    named = {(cell, columns[column]): values for (cell, column), values in found.items()}
    tested = corrected(named)
    others = fixed_keys(rows, keys)
    lines: list[list[str]] = []
    for group in groups(rows, others):
        first = [row for row in rows if tuple(row[key] for key in others) == group]
        lines.append(_baseline(first, keys, baseline, group, others, columns))
        for cell in _cells(rows, keys, [cell for cell, _ in found if cell.fixed == group]):
            label = _labels(keys, cell.value.split(","))
            told = [
                _told(named[cell, name], tested[cell, name].is_significant)
                for name in columns.values()
            ]
            seeds = len(named[cell, next(iter(columns.values()))])
            lines.append([*[""] * len(others), *label, str(seeds), *told])
    head = [*heads(rows, keys), "seeds", *columns.values()]
    means = sum(domain == "mean" for _, domain in named)
    words = (
        f"A star: significant at 5 % after Holm's correction, over {len(named) - means} "
        f"differences of single columns, or over {means} of the mean."
    )
    return markdown(head, lines), words


def groups(rows: Rows, others: Sequence[str]) -> list[tuple[str, ...]]:
    """Values of the keys that are not compared, in the order of their sizes."""
    places = {key: sorted_values(key, rows) for key in others}
    groups = dict.fromkeys(tuple(row[key] for key in others) for row in rows)
    return sorted(
        groups, key=lambda g: [places[key].index(one) for key, one in zip(others, g, strict=True)]
    )


def _cells(rows: Rows, keys: Sequence[str], cells: Sequence[Cell]) -> list[Cell]:
    places = [sorted_values(key, rows) for key in keys]
    return sorted(
        dict.fromkeys(cells),
        key=lambda cell: [p.index(v) for p, v in zip(places, cell.value.split(","), strict=True)],
    )


def _labels(keys: Sequence[str], values: Sequence[str]) -> list[str]:
    return [value_label(key, value) for key, value in zip(keys, values, strict=True)]


def _baseline(
    rows: Rows, keys: Sequence[str], baseline: str, group: Sequence[str], others: Sequence[str],
    columns: Mapping[str, str],
) -> list[str]:  # fmt: skip
    mine = [row for row in rows if value_of(row, keys).lower() == baseline.lower()]
    means = [fixed(float(np.mean([float(row[c]) for row in mine]))) for c in columns]
    label = _labels(keys, value_of(mine[0], keys).split(","))
    return [*_labels(others, group), *label, str(len({r["seed"] for r in mine})), *means]


def _told(values: Sequence[float], is_significant: bool) -> str:
    effect = Effect.of(values)
    if len(values) < 2:
        return signed(effect.middle)
    star = "*" if is_significant else ""
    return f"{signed(effect.middle)} ({signed(effect.low)}, {signed(effect.high)}){star}"


def labelled(
    name: str,
    key: str,
    baseline: str,
    *,
    column: str = "loss/mean",
    only: Sequence[str] = (),
    words: Mapping[str, str] | None = None,
) -> dict[str, Sequence[float]]:
    """Differences of every value of the keys (or of `only` these) to the baseline, by a label: the
    value (as in `words`, where it is there) and those of the other swept keys."""
    rows, keys, given = rows_of(name, "seed", "id", column), key.split(","), words or {}
    others = fixed_keys(rows, keys)
    found = paired(rows, keys, baseline, [column])
    made: dict[str, Sequence[float]] = {}
    for group in groups(rows, others):
        fixed_words = [phrase(k, v) for k, v in zip(others, group, strict=True)]
        for cell in _cells(rows, keys, [cell for cell, _ in found if cell.fixed == group]):
            if only and cell.value not in only:
                continue
            values = zip(keys, cell.value.split(","), strict=True)
            mine = given.get(cell.value, ", ".join(phrase(k, v) for k, v in values))
            made[", ".join(one for one in (mine, *fixed_words) if one)] = found[cell, column]
    return made


def compared(
    name: str, key: str, baseline: str, what: str, *, good: Good = "lower",
    column: str = "loss/mean", only: Sequence[str] = (), words: Mapping[str, str] | None = None,
    after: str = "",
) -> Claim:  # fmt: skip
    """The claim that the loss is lower, or another, than the baseline's, by each value's own
    interval; where Holm's correction over the values takes one back, it says so."""
    found = labelled(name, key, baseline, column=column, only=only, words=words)
    effects = {label: Effect.of(values) for label, values in found.items()}
    tests = dict(zip(found, holm_tests(list(found.values())), strict=True))
    told = [label for label, effect in effects.items() if effect.verdict("either") == YES]
    kept = [label for label in told if tests[label].is_significant]
    if kept != told:
        over = f"after Holm's correction over the {len(found)}"
        after += f"; significant {over}: {listed(kept) if kept else 'none'}"
    return answer(what, effects, good=good, after=after)


def by_domain(name: str, key: str, baseline: str) -> str:
    """How many differences of each domain are significant after Holm's correction."""
    rows = rows_of(name, "seed", "id", "loss/mean")
    columns = losses(rows)
    found = paired(rows, key.split(","), baseline, list(columns))
    tested = corrected(found)
    of = len({cell for cell, _ in found})
    told: list[str] = []
    for word, sign in (("lower", -1), ("higher", 1)):
        counts = {
            title: sum(
                tested[cell, one].is_significant and sign * float(np.mean(found[cell, one])) > 0
                for cell, one in found
                if one == column
            )
            for column, title in columns.items()
        }
        some = [f"{title} {count}" for title, count in counts.items() if count]
        told.append(f"{word}: {', '.join(some) or 'none'}")
    return (
        f"- Significant after Holm's correction, of {counted(of, 'comparison')} on each domain: "
        f"{'; '.join(told)}."
    )


def load(name: str, key: str) -> str:
    """How evenly the experts were used, by value, over the runs: with spikes, where the runs were
    there to count them (`loads.csv` of `experiments.ablations.stability`)."""
    keys = key.split(",")
    try:
        counted_ = plain(f"{name.rpartition('/')[0]}/loads.csv")
    except NotTrainedError:
        counted_ = _loads(rows_of(name, *keys, *LOADS, "skipped_steps"), keys)
    head = [label_of(column) if column in keys else column for column in counted_[0]]
    lines = [
        [value_label(column, value) if column in keys else value for column, value in row.items()]
        for row in counted_
    ]
    words = (
        "*Busiest* and *idlest*: an expert's load over the mean, of the layer where it is worst; "
        "*no slot*: choices that were dropped; both at the end of training."
    )
    return f"{words}\n\n{markdown(head, lines)}"


def _loads(rows: Rows, keys: Sequence[str]) -> Rows:
    found: Rows = []
    for value in dict.fromkeys(tuple(row[one] for one in keys) for row in rows):
        mine = [row for row in rows if tuple(row[one] for one in keys) == value]
        busiest, idlest, dropped = (
            float(np.mean([float(row[column]) for row in mine])) for column in LOADS
        )
        found.append(
            {
                **dict(zip(keys, value, strict=True)),
                "busiest": f"{busiest:.2f}",
                "idlest": f"{idlest:.2f}",
                "no slot": f"{100 * dropped:.1f} %",
                "steps skipped": str(sum(int(row["skipped_steps"]) for row in mine)),
            }
        )
    return found
