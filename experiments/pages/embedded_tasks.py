"""Tasks for small models: which models are told from chance, and what demonstrations change."""

from experiments.pages.tables import plain
from experiments.pages.words import Claim, listed, markdown
from glam.units import signed


def _trained(rows: list[dict[str, str]]) -> list[str]:
    return [m for m in dict.fromkeys(row["model"] for row in rows) if not m.startswith("untrained")]


def embedded_tasks() -> Claim:
    """By Holm's correction over the tasks of each model."""
    rows = [row for row in plain("embedded_tasks/results.csv") if row["demonstrations"] == "0"]
    trained = _trained(rows)

    def count(models: list[str]) -> tuple[int, int]:
        mine = [row["above chance"] == "True" for row in rows if row["model"] in models]
        return sum(mine), len(mine)

    untrained = [m for m in dict.fromkeys(row["model"] for row in rows) if m not in trained]
    told = listed(f"`{one}` on {count([one])[0]} of {count([one])[1]} tasks" for one in trained)
    above, every = count(untrained)
    whole = all(count([one])[0] == count([one])[1] for one in trained)
    word = "Yes" if whole and not above else "In part" if count(trained)[0] else "No"
    return Claim(
        word,
        f"Told from chance at 5 % after Holm's correction: {told}; {len(untrained)} untrained "
        f"models on {above} of {every}.",
    )


def task_scores() -> str:
    """Of the trained models with their intervals, and of the untrained the range."""
    rows = [row for row in plain("embedded_tasks/results.csv") if row["demonstrations"] == "0"]
    trained = _trained(rows)
    made: list[list[str]] = []
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        told = [_score(row) for name in trained for row in mine if row["model"] == name]
        values = [row["value"] for row in mine if row["model"] not in trained]
        made.append(
            [task, mine[0]["items"], mine[0]["chance"], *told, f"{min(values)} to {max(values)}"]
        )
    head = ["task", "items", "chance", *(f"`{one}`" for one in trained), "untrained models"]
    return markdown(head, made)


def _score(row: dict[str, str]) -> str:
    told = f"{row['value']} ({row['low']} to {row['high']})"
    return f"**{told}**" if row["above chance"] == "True" else told


def demonstrations() -> str:
    rows = plain("embedded_tasks/demonstrations.csv")
    models = list(dict.fromkeys(row["model"] for row in rows))
    at = {(row["model"], row["task"]): row for row in rows}
    made = [
        [task, *(_change(at[model, task]) for model in models)]
        for task in dict.fromkeys(row["task"] for row in rows)
    ]
    return markdown(["task", *(f"`{one}`" for one in models)], made)


def _change(row: dict[str, str]) -> str:
    middle, low, high = (signed(float(row[name])) for name in ("change", "low", "high"))
    told = f"{middle} ({low} to {high})"
    return f"**{told}**" if float(row["adjusted p"]) < 0.05 else told


def task_seconds() -> str:
    rows = plain("embedded_tasks/seconds.csv")
    groups: dict[str, list[float]] = {}
    for row in rows:
        what = row["what"].replace("judging ", "")
        kind = what.partition(", ")[2] or what
        groups.setdefault(kind.replace("with ", "with demonstrations: "), []).append(
            float(row["seconds of one core"])
        )
    told = [
        f"{kind} {min(each):.0f} s" + (f" to {max(each):.0f} s" if len(each) > 1 else "")
        for kind, each in groups.items()
    ]
    return f"- On one core of {rows[0]['processor']}, which had other work: {'; '.join(told)}."
