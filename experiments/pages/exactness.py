"""How exact the kernels are, and what the last digits do to a run (digits)."""

import statistics

from experiments.pages.tables import Rows, plain
from experiments.pages.words import Claim, listed, markdown
from glam.units import signed

OPERATIONS, NOISE = "digits/operations.csv", "digits/noise.csv"
SETS = ("on", "avx2", "off")  # of GLAM_KERNELS
TYPES = ("float32", "bfloat16")
NAMES = {"off": "`off` (torch's operators)"}


def same_within_noise() -> Claim:
    """Whether a set of kernels changes a loss by less than a seed does."""
    rows = plain(NOISE)
    holds = all(row["within"] == "True" for row in rows)
    told = listed(f"{_set(row)} {_mean(row)}" for row in rows)
    spread = f"{float(rows[0]['sd_of_seeds']):.3f}"
    return Claim(
        "Yes" if holds else "No",
        f"Held-out loss by other kernels less that by the default ones, nats: {told}; the standard "
        f"deviation of a seed is {spread}.",
    )


def _set(row: dict[str, str]) -> str:
    return NAMES.get(row["kernels"], f"`{row['kernels']}`")


def _mean(row: dict[str, str]) -> str:
    middle, low, high = (signed(float(row[k]), 4) for k in ("mean_difference", "low", "high"))
    return f"{middle} ({low} to {high})"


def noise_table() -> str:
    rows = [
        [_set(row), _mean(row), f"{float(row['largest_difference']):.4f}", _spread(row)]
        for row in plain(NOISE)
    ]
    head = ["set", "mean difference", "largest", "standard deviation of a seed"]
    return markdown(head, rows)


def _spread(row: dict[str, str]) -> str:
    return f"{float(row['sd_of_seeds']):.3f}"


def operations_table() -> str:
    """The worst of both sizes, by operation, type and set."""
    rows = plain(OPERATIONS)
    made = [
        [name, *(" / ".join(_errors(rows, name, dtype)) for dtype in TYPES)]
        for name in dict.fromkeys(row["operation"] for row in rows)
    ]
    sets = " / ".join(SETS)
    return markdown(["operation", *(f"{dtype}: {sets}" for dtype in TYPES)], made)


def _errors(rows: Rows, name: str, dtype: str) -> list[str]:
    found: list[str] = []
    for one in SETS:
        at = (name, dtype, one)
        errors = [
            float(row["difference"])
            for row in rows
            if (row["operation"], row["precision"], row["GLAM_KERNELS"]) == at
        ]
        found += [f"{max(errors):.1e}"] if errors else []
    return found


def worst_operation() -> str:
    """Where our kernels lose most against torch's operators, in float32."""
    rows = plain(OPERATIONS)
    times = {
        name: float(mine) / float(torchs)
        for name in dict.fromkeys(row["operation"] for row in rows)
        for mine, _, torchs in [_errors(rows, name, TYPES[0])]
    }
    name = max(times, key=times.__getitem__)
    return (
        f"In {TYPES[0]} the error of {name} is {times[name]:.1f} times that of torch's operators; "
        f"the median over the operations is {statistics.median(times.values()):.1f}."
    )
