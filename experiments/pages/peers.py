"""How our work stands beside others' (peers)."""

from experiments.pages.tables import STUDIES, Rows, plain
from experiments.pages.words import Claim, listed
from experiments.peers.__main__ import NAMES, table

OURS = "glam"


def _peers() -> dict[str, Rows]:
    """The rows of the tables that are there: each is measured alone."""
    files = {name: f"peers/{name}.csv" for name in NAMES}
    return {name: plain(file) for name, file in files.items() if (STUDIES / file).is_file()}


def beside_peers() -> Claim:
    """How many pieces of work ours is the fastest at, alone."""
    lines = list(table([row for rows in _peers().values() for row in rows]))[2:]
    alone = sum(f"| {OURS} |" in line for line in lines)
    return Claim(
        "Yes" if alone == len(lines) else f"In {alone} of {len(lines)} rows",
        "So many pieces of work glam does in less time than every other candidate.",
    )


def peer_table() -> str:
    measured = _peers()
    rows = [row for its in measured.values() for row in its]
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    versions = "; ".join(dict.fromkeys(row["versions"] for row in rows))
    absent = [name for name in NAMES if name not in measured]
    lacks = f" Not measured yet: {listed(absent)}." if absent else ""
    return f"Rows of {machines}; {versions}.{lacks}\n\n" + "\n".join(table(rows))
