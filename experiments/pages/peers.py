"""How our work stands beside others' (peers)."""

from experiments.pages.tables import STUDIES, Rows, plain
from experiments.pages.words import Claim, listed
from experiments.peers.__main__ import NAMES, table

OURS = "glam"


def _peers() -> Rows:
    """Of the tables that are there: each is measured alone."""
    there = [name for name in NAMES if (STUDIES / f"peers/{name}.csv").is_file()]
    return [row for name in there for row in plain(f"peers/{name}.csv")]


def beside_peers() -> Claim:
    """How many pieces of work ours is the fastest at, alone."""
    lines = list(table(_peers()))[2:]
    alone = sum(f"| {OURS} |" in line for line in lines)
    return Claim(
        "Yes" if alone == len(lines) else f"In {alone} of {len(lines)} rows",
        "So many pieces of work glam does in less time than every other candidate.",
    )


def peer_table() -> str:
    rows = _peers()
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    versions = "; ".join(dict.fromkeys(row["versions"] for row in rows))
    absent = [name for name in NAMES if not (STUDIES / f"peers/{name}.csv").is_file()]
    lacks = f" Not measured yet: {listed(absent)}." if absent else ""
    return f"Rows of {machines}; {versions}.{lacks}\n\n" + "\n".join(table(rows))
