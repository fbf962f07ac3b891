"""Which evaluation items are found in the text (contamination)."""

import statistics
from collections.abc import Callable

from experiments.pages.tables import plain
from experiments.pages.words import Claim, listed, markdown
from glam.units import percent

RECALL = "contamination/recall.csv"


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
