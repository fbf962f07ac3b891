"""What `task=plan` predicts, beside what was measured or published (memory, throughput,
paper_numbers)."""

from collections.abc import Sequence

from experiments.pages.tables import Rows, plain
from experiments.pages.words import Claim, markdown
from experiments.paper_numbers.compare import EXPLAINED
from glam.units import fixed, percent, signed

MEMORY, THROUGHPUT = "memory/results.csv", "throughput/results.csv"
NUMBERS = "paper_numbers/numbers.csv"
COLUMNS = {MEMORY: ("predicted_mb", "measured_mb"), THROUGHPUT: ("predicted", "measured")}
NEAR = {MEMORY: 0.05, THROUGHPUT: 0.15}  # the deviation that is good enough
UNITS = {"parameters": (1e9, "B"), "FLOP": (1e9, "G"), "share": (0.01, "%")}
PAGE = (  # of 30 numbers, those that the page shows
    "64B/64E, total", "64B/64E, active", "64B/64E, FLOPs per token", "GPT-3, FLOPs per token",
    "FLOPs per token, saved", "64B/64E, 280 B tokens, hours", "64B/64E, 280 B tokens, MWh",
    "64B/64E, 600 B tokens, MWh", "GPT-3, MWh", "MWh, saved",
)  # fmt: skip


def predicted(name: str) -> Claim:
    """How many predictions are near what was measured, and how far off the others are."""
    pairs = [tuple(float(row[column]) for column in COLUMNS[name]) for row in plain(name)]
    off = [promised / measured - 1 for promised, measured in pairs]
    near = sum(abs(one) <= NEAR[name] for one in off)
    word = "Yes" if near == len(off) else f"For {near} of {len(off)}"
    many = f"All {len(off)}" if near == len(off) else "So many"
    what = f"{many} configurations are within {percent(NEAR[name], 0)}"
    return Claim(word, f"{what}; all from {_off(min(off))} to {_off(max(off))}.")


def _off(share: float) -> str:
    return f"{percent(abs(share), 0)} {'below' if share < 0 else 'above'}"


def memory_table() -> str:
    rows = [
        [
            *(row["name"], f"{row['rows']} x {row['length']}", row["precision"], row["optimizer"]),
            *(_ways(row), row["steps"], f"{int(row['measured_mb']):,}"),
            *(f"{int(row['predicted_mb']):,}", f"{signed(100 * float(row['deviation']), 1)} %"),
        ]
        for row in plain(MEMORY)
    ]
    head = ["model", "tokens of a step", "precision", "optimizer", "saves memory by", "steps"]
    return markdown([*head, "measured [MB]", "predicted [MB]", "off by"], rows)


def _ways(row: dict[str, str]) -> str:
    ways = {"rematerialize": "recomputation", "update_in_backward": "updates in the backward pass"}
    return ", ".join(told for key, told in ways.items() if row[key] == "True")


def throughput_table() -> str:
    rows = [
        [
            *(row["case"], f"{int(row['predicted']):,}", f"{int(row['measured']):,}"),
            f"{signed(100 * float(row['deviation']), 0)} %",
        ]
        for row in plain(THROUGHPUT)
    ]
    return markdown(["configuration", "predicted [tokens/s]", "measured", "off by"], rows)


def paper_numbers() -> Claim:
    """Of all numbers, how many are as the paper has them."""
    rows = plain(NUMBERS)
    near = _near(rows)
    given = sum("derived from" in row["why"] for row in rows)
    return Claim(
        f"For {len(near)} of {len(rows)}",
        f"So many are within {percent(EXPLAINED, 0)} of what was published, {given} of them by "
        f"construction; {_flops(rows)} FLOPs per token are "
        "computed for 64B/64E.",
    )


def _near(rows: Rows) -> Rows:
    return [row for row in rows if abs(float(row["deviation"])) <= EXPLAINED]


def _flops(rows: Rows) -> str:
    """Of 64B/64E, computed and published."""
    [row] = [row for row in rows if row["what"] == "64B/64E, FLOPs per token"]
    return f"{_value(row, 'computed')} (published: {_value(row, 'published')})"


def paper_table(names: Sequence[str] = PAGE) -> str:
    rows = {row["what"]: row for row in plain(NUMBERS)}
    return markdown(
        ["", "published", "computed", "why they differ, or cannot"],
        [
            [
                name,
                *(_value(rows[name], side) for side in ("published", "computed")),
                rows[name]["why"],
            ]
            for name in names
        ],
    )


def _value(row: dict[str, str], side: str) -> str:
    scale, unit = UNITS.get(row["unit"], (1.0, row["unit"]))
    value = float(row[side]) / scale
    digits = 1 if value < 100 and unit != "h" else 0
    return f"{fixed(value, digits)} {unit}"
