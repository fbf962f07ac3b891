"""What the TPU's own compiler says of programs that nobody has run (tpu_compile)."""

import json

from experiments.pages.tables import Rows, plain
from experiments.pages.words import Claim, markdown
from glam.planning.paper import PAPER_MODELS

RESULTS, SHARES = "tpu_compile/results.csv", "tpu_compile/shares.csv"
SHORT = {"training.rematerialize=true": "again", "hardware.scan=true": "loop"}
LEFT_OUT = ("training.rematerialize", "hardware.scan", "hardware.mesh", "hardware.topology")
NOT_READ = "not read back"


def fits_a_tpu() -> Claim:
    """The paper's largest model on its chips."""
    rows = [row for row in plain(RESULTS) if row["case"].startswith("model=glam_64b64e ")]
    told = ", ".join(f"{_gb(row['compiled_gb'])} by {row['route']}" for row in rows)
    first = rows[0]
    return Claim(
        "Yes" if all(row["fits"] == "yes" for row in rows) else "No",
        f"64B/64E takes of the {_gb(first['available_gb'])} of each of its {int(first['chips']):,} "
        f"chips {told}; {_gb(first['counted_gb'])} were counted. Nothing was run.",
    )


def _gb(text: str) -> str:
    return f"{float(text):.1f} GB"


def _named(row: dict[str, str]) -> str:
    """The model, and what else is unlike the default."""
    model, *words = row["case"].split()
    label = PAPER_MODELS[model.removeprefix("model=")].label
    told = [word for word in words if not word.startswith((*LEFT_OUT, "hardware="))]
    return ", ".join((label, *(f"`{word}`" for word in told)))


def _ways(row: dict[str, str]) -> str:
    return ", ".join(short for word, short in SHORT.items() if word in row["case"].split())


def compiled_table() -> str:
    """A row a program."""
    rows = [
        [
            *(_named(row), _chips(row), _ways(row), f"{row['route']}, {row['libtpu']}"),
            *(row["fits"], _gb(row["counted_gb"]), _gb(row["compiled_gb"]), _split(row)),
            *(row["ratio"], f"{row['compile_cpu_seconds']} s", _gb(row["peak_rss_gb"])),
        ]
        for row in plain(RESULTS)
    ]
    head = ["model", "chips", "layers", "program by, libtpu", "fits", "counted", "compiled"]
    head += ["arguments + temporaries", "FLOPs, of the hand count", "compiler, CPU"]
    return markdown([*head, "peak of the process"], rows)


def _chips(row: dict[str, str]) -> str:
    """How many, and of which generation."""
    words = row["case"].split()
    kind = next(word for word in words if word.startswith("hardware=")).partition("=")[2]
    return f"{int(row['chips']):,} {kind.split('_')[1]}"


def _split(row: dict[str, str]) -> str:
    if not row["argument_gb"]:
        return ""
    return f"{float(row['argument_gb']):.2f} + {float(row['temporary_gb']):.2f} GB"


def sent_table() -> str:
    """What a chip sends in a step, by program: gathers by what is gathered, and the rest."""
    rows = plain(RESULTS)
    names = dict.fromkeys(f"gathered: {name}" for row in rows for name in _messages(row, "gathers"))
    others = dict.fromkeys(name for row in rows for name in _messages(row, "collectives"))
    shown = [*names, *(name for name in others if name != "all-gather")]
    made = [
        [_named(row), _chips(row), row["route"], *(_sent(row, name) for name in shown)]
        for row in rows
        if row["fits"] == "yes"
    ]
    return markdown(["model", "chips", "program by", *shown], made)


def _messages(row: dict[str, str], column: str) -> dict[str, dict[str, int]]:
    return json.loads(row[column] or "{}")


def _sent(row: dict[str, str], name: str) -> str:
    if not row["collectives"]:
        return NOT_READ
    column = "gathers" if name.startswith("gathered: ") else "collectives"
    found = _messages(row, column).get(name.removeprefix("gathered: "))
    return f"{found['bytes'] / 1e9:.3g} GB in {found['count']:,}" if found else ""


def moved() -> str:
    """Whether any program moves an expert's weight."""
    read = [row for row in plain(RESULTS) if row["expert_weights_moved"]]
    moves = sum(int(row["expert_weights_moved"]) for row in read)
    which = "none" if moves == 0 else str(moves)
    return (
        f"Of the {len(read)} programs whose messages can be read, {which} moves an expert weight."
    )


def shares_table() -> str:
    """Two changes of torch_tpu's program, each taken back alone."""
    rows: Rows = plain(SHARES)
    made = [
        [
            *(row["variant"], f"{float(row['temporary_mb']):,.0f} MB"),
            f"{float(row['gathered_mb']):,.0f} MB in {_gathers(row)}",
            row["flops"],
        ]
        for row in rows
    ]
    return markdown(["program", "temporaries", "gathered in a step", "FLOPs of one turn"], made)


def _gathers(row: dict[str, str]) -> int:
    return _messages(row, "collectives")["all-gather"]["count"]
