"""Which copies in the text are told (deduplication)."""

from experiments.pages.tables import plain
from experiments.pages.words import Claim, Effect, markdown
from glam.units import counted, percent, signed

SUMMARY, LOSS = "deduplication/summary.csv", "deduplication/loss.csv"
GROUPS = {  # the columns of the summary that the page shows
    "exact copies": "exact copies",
    "near copies of 0.8 and above": "near copies, similarity 0.8 and above",
    "near copies from 0.8 to 0.825": "of them, from 0.8 to 0.825",
    "near copies below 0.6": "near copies, similarity below 0.6",
    "originals": "pages that are no copy",
}


def copies_found() -> Claim:
    """Of planted copies, by the recipe as it is."""
    ours = plain(SUMMARY)[0]
    exact, near, wrong = (_told(ours, name) for name in ("exact copies", *list(GROUPS)[1::3]))
    return Claim(
        "Yes" if ours["exact copies"] == ours["exact copies: told"] else "No",
        f"Of exact copies {exact} are told, of near ones of similarity 0.8 and above {near}, of "
        f"pages that are no copy {wrong}.",
    )


def _told(row: dict[str, str], name: str) -> str:
    told, of = int(row[f"{name}: told"]), int(row[name])
    if told in (0, of):
        return "none" if told == 0 else "all"
    return f"{told} of {of:,}" if told < 10 else percent(told / of, 2)


def planted_table() -> str:
    recipes = plain(SUMMARY)
    rows = [
        [title, f"{int(recipes[0][name]):,}", *(_told(row, name) for row in recipes)]
        for name, title in GROUPS.items()
    ]
    scores = [
        [f"{name} of copies among near copies", "", *(f"{float(row[name]):.3f}" for row in recipes)]
        for name in ("F1", "macro F1")
    ]
    return markdown(["told to be copies", "of", *(r["recipe"] for r in recipes)], rows + scores)


def embedded_copies() -> str:
    rows = [
        [
            *(row["source"], f"{int(row['documents']):,}"),
            *(f"{int(row[f'{kind} copies']):,}" for kind in ("equal", "near")),
            percent(int(row["near"]) / int(row["characters"]), 2),
        ]
        for row in plain("deduplication/embedded.csv")
    ]
    head = ["source", "documents", "equal", "near", "the near ones' share of its characters"]
    return markdown(head, rows)


def loss_without_copies() -> str:
    """By domain, paired by seed."""
    rows = plain(LOSS)
    names = [name for name in rows[0] if name not in ("data.dedup.near", "seed")]
    cells: list[str] = []
    for name in names:
        by = {
            near: {row["seed"]: float(row[name]) for row in rows if row["data.dedup.near"] == near}
            for near in ("True", "False")
        }
        effect = Effect.of([by["True"][seed] - by["False"][seed] for seed in sorted(by["True"])])
        cells.append(f"{signed(effect.middle)} ({signed(effect.low)}, {signed(effect.high)})")
    seeds = counted(len({row["seed"] for row in rows}), "paired seed")
    words = (
        f"Held-out loss without near copies less that with them, {seeds} and 95 % t intervals, "
        f"which are not corrected for {len(names)} comparisons:"
    )
    return f"{words}\n\n{markdown(names, [cells])}"


def copies_cost() -> str:
    """CPU seconds and memory by the number of documents."""
    rows = plain("deduplication/memory.csv")
    made = [
        [
            *(f"{int(row['documents']):,}", row["cpu_s"], row["MB at the peak"]),
            f"{1e6 * float(row['cpu_s']) / int(row['documents']):.0f}",
        ]
        for row in rows
    ]
    head = ["documents", "CPU seconds", f"MB at the peak ({rows[0]['MB before']} before)"]
    return markdown([*head, "µs a document"], made)
