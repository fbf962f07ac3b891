"""How cost grows with each size (growth)."""

from experiments.pages.tables import Rows, plain
from experiments.pages.words import Claim, markdown
from glam.units import percent, signed

SIZES, PARTS = "growth/sizes.csv", "growth/parts.csv"
FAR = 0.15  # from the line of theory


def grows_as_counted() -> Claim:
    """Whether time and memory lie near what the plan counts."""
    rows = _sizes()
    near = [row for row in rows if abs(float(row["departure"])) <= FAR]
    memory = max(abs(float(row["memory_departure"])) for row in rows)
    return Claim(
        "Yes" if len(near) == len(rows) else f"At {len(near)} of {len(rows)} sizes",
        "There (each in two types of number) the time of a step is within "
        f"{percent(FAR, 0)} of the line of its FLOPs and bytes; its memory is within "
        f"{percent(memory, 0)} at all.",
    )


def _sizes() -> Rows:
    """Without the rows of threads, which are of the machine."""
    return [row for row in plain(SIZES) if not row["axis"].startswith("threads")]


def departures() -> str:
    """The sizes whose time lies further from the line."""
    made = [
        [
            row["axis"],
            row["value"],
            row["precision"],
            f"{signed(100 * float(row['departure']), 0)} %",
        ]
        for row in _sizes()
        if abs(float(row["departure"])) > FAR
    ]
    return markdown(["size", "of", "precision", "time, from the line"], made)


def part_table() -> str:
    """The time of each part over that of its FLOPs."""
    rows = [row for row in plain(PARTS) if row["times_limit"]]
    parts = list(dict.fromkeys(row["part"] for row in rows))
    places = list(dict.fromkeys((row["axis"], row["value"], row["precision"]) for row in rows))
    made = [[*place, *(_times(rows, place, part) for part in parts)] for place in places]
    return markdown(["size", "of", "precision", *parts], made)


def _times(rows: Rows, place: tuple[str, str, str], part: str) -> str:
    found = [
        row["times_limit"]
        for row in rows
        if (row["axis"], row["value"], row["precision"], row["part"]) == (*place, part)
    ]
    return f"{float(found[0]):.1f}" if found else ""


def two_threads() -> str:
    """By the clock."""
    rows = [row for row in plain(SIZES) if row["axis"] == "threads, wall clock"]
    of = {(row["precision"], row["value"]): float(row["ms"]) for row in rows}
    told = " and ".join(
        f"{of[dtype, '2'] / of[dtype, '1']:.2f} in {dtype}" for dtype in ("float32", "bfloat16")
    )
    return f"Two threads take {told} of the time of one, by the clock."


def pace() -> str:
    """The last minute beside the first."""
    rows = plain("growth/pace.csv")
    first, last = (float(rows[place]["cpu_ms_a_step"]) for place in (0, -1))
    memory = [float(row["resident_mb"]) for row in rows]
    steps = sum(int(row["steps"]) for row in rows)
    slower = signed(100 * (last / first - 1), 1)
    return (
        f"In {len(rows)} minutes of CPU time ({steps:,} steps) the last minute took {slower} % "
        f"time a step beside the first; memory lay between {min(memory):.0f} and "
        f"{max(memory):.0f} MB."
    )
