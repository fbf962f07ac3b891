"""One genre, upcycling, tasks for small models and serving."""

from experiments.pages.differences import compared, labelled
from experiments.pages.tables import plain, rows_of
from experiments.pages.words import Claim, Effect, listed, markdown
from glam.units import signed

GENRE, ARMS = "one_genre/results.csv", "upcycling/results.csv"
SHOWN_GATE = "0.2"  # the threshold of the sentence
ALL = "all"  # no threshold


def one_genre() -> Claim:
    """Of the clean half of the genre: the mean has the spoilt half in it."""
    filtered = {"filtered": ""}
    spoilt = labelled(GENRE, "data", "unfiltered", column="loss/spoilt", words=filtered)
    told = listed(Effect.of(differences).told() for differences in spoilt.values())
    what = (
        "Loss on clean held-out pages after filtered text less that after unfiltered, nats per "
        "token"
    )
    return compared(
        GENRE, "data", "unfiltered", what,
        column="loss/clean", words=filtered, after=f"; on spoilt pages {told}",
    )  # fmt: skip


def _upcycled() -> list[str]:
    arms = dict.fromkeys(row["arm"] for row in rows_of(ARMS, "arm"))
    return [arm for arm in arms if arm.startswith("upcycled")]


def upcycling() -> Claim:
    """Against training anew, at equal further tokens."""
    what = (
        "Mean held-out loss less that of a sparse model trained anew, at equal further tokens, "
        "nats per token"
    )
    return compared(ARMS, "arm", "anew", what, only=_upcycled())


def upcycled_over_dense() -> str:
    """What the experts add to the tokens before."""
    what = "Mean held-out loss less that of the dense model trained on for as long, nats per token"
    found = compared(ARMS, "arm", "dense trained on", what, only=_upcycled())
    return f"- Do the experts add to what the tokens before bring? {found}"


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


def serving() -> Claim:
    """One run: no interval."""
    rows = {(row["experts"], row["threshold"]): row for row in plain("serving/results.csv")}
    fewer, narrow = rows["float32", SHOWN_GATE], rows["int8", ALL]
    more, int8 = (signed(float(row["more_loss"]), 4) for row in (fewer, narrow))
    return Claim(
        "One run, no interval",
        f"A second expert dropped below a gate of {SHOWN_GATE} leaves "
        f"{float(fewer['active_experts']):.2f} active experts for {more} nats per token; int8 "
        f"experts cost {int8}.",
    )


def thresholds() -> str:
    """Loss, FLOPs and bytes by threshold, over those of all experts in float32."""
    rows = plain("serving/results.csv")
    first = rows[0]
    by = {(row["experts"], row["threshold"]): row for row in rows}
    made: list[list[str]] = []
    for threshold in dict.fromkeys(row["threshold"] for row in rows):
        wide, narrow = by["float32", threshold], by["int8", threshold]
        ratio = [
            f"{float(row[name]) / float(first[name]):.2f}"
            for row, name in (
                (wide, "flops_per_token"), (wide, "bytes_per_token"), (narrow, "bytes_per_token"),
            )
        ]  # fmt: skip
        more = [signed(float(row["more_loss"]), 4) for row in (wide, narrow)]
        label = "none" if threshold == ALL else threshold
        made.append([label, f"{float(wide['active_experts']):.2f}", *more, *ratio])
    head = ["threshold", "active experts", "loss more, float32", "int8", "FLOPs"]
    table = markdown([*head, "bytes read, float32", "int8"], made)
    return f"Loss is in nats per token, more than {float(first['loss']):.4f}.\n\n{table}"


def pools() -> str:
    made = [
        [
            row["experts"], f"{float(row['pool_mb']):.3g}", row["seats"],
            f"{float(row['grown_mb']):.0f}", f"{float(row['reads_per_token']):.2f}",
        ]
        for row in plain("serving/memory.csv")
    ]  # fmt: skip
    head = ["experts", "pool, MB", "seats", "RssAnon added, MB", "expert reads a token"]
    return markdown(head, made)
