"""What is found of copies and of evaluation items in the text (deduplication, contamination)."""

import statistics
from collections.abc import Callable

from experiments.pages.tables import plain
from experiments.pages.words import Claim, Effect, listed, markdown
from glam.units import counted, percent, signed

SUMMARY, LOSS = "deduplication/summary.csv", "deduplication/loss.csv"
RECALL = "contamination/recall.csv"
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


def overlap_found() -> Claim:
    """Of planted items, and of what is flagged besides."""
    rows = plain(RECALL)
    missed = sum(int(row["planted"]) - int(row["planted found"]) for row in rows)
    flagged, there = (
        sum(int(row[name]) for row in rows)
        for name in ("flagged", "of them word for word in the text")
    )
    planted = sum(int(row["planted"]) for row in rows)
    return Claim(
        "Yes" if missed == 0 and flagged == there else "No",
        f"Of {planted:,} planted items {planted - missed:,} are found; of {flagged:,} that are "
        f"flagged {there:,} stand in the text word for word.",
    )


def overlap_table() -> str:
    columns: dict[str, Callable[[dict[str, str]], str]] = {
        "items": lambda row: row["items"],
        "n": lambda row: row["n"],
        "planted, found": lambda row: f"{row['planted']}, {row['planted found']}",
        "without common phrases": lambda row: percent(float(row["recall without common phrases"])),
        "others flagged": lambda row: row["others flagged"],
        "flagged, word for word there": lambda row: (
            f"{row['flagged']}, {row['of them word for word in the text']}"
        ),
        "there, not flagged": lambda row: row["in the text and not flagged"],
    }
    made = [[tell(row) for tell in columns.values()] for row in plain(RECALL)]
    return markdown(list(columns), made)


def overlap_cost() -> str:
    rows = plain("contamination/cost.csv")
    made = [
        [
            *(f"{row['n-grams of']} ({int(row['n-grams']):,})", row["lengths"], row["code"]),
            *(row["megabytes per second"], row["microseconds per document"]),
        ]
        for row in rows
    ]
    head = ["n-grams of", "lengths looked for", "code", "MB/s", "µs a document"]
    published = next(name for name in rows[0] if "published" in name)
    ours = listed(row[published] for row in rows if row["code"] == "C")
    mean = statistics.mean(1e6 * float(row["megabytes"]) / int(row["documents"]) for row in rows)
    return (
        f"{markdown([*head], made)}\n\n"
        f"A document has {mean:,.0f} bytes; {rows[0]['processor']}, one thread. "
        f"allenai/decon publishes {published.split()[-1]} µs a document: in C ours are {ours} of "
        "it. That is another machine and other documents, so only the order says something."
    )
