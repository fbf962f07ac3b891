"""`python -m experiments.scaling_law.refit [<study.csv>]`: the law of a committed table, as a
study's page fits it today. Writes law.json and its figures beside the table, and prints in
Markdown the forms, the cells held out, the constants, and what the cells say without a law."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.scaling_law.tables import COLUMNS, KNOWN
from experiments.tables import finished, refuse, swept
from glam.analysis.paired import StudyRow
from glam.config import RunConfig
from glam.reporting.law import WHOSE, section
from glam.units import fixed, si, signed

# Of glam_nano to glam_mini, which differ in nothing else (conf/model).
WIDTHS = {"glam_nano": 16, "glam_micro": 32, "glam_tiny": 64, "glam_mini": 128}


def cells_of(file: Path) -> list[StudyRow]:
    rows = finished(file, "model", "id", "run", "bits_per_byte/mean", *COLUMNS)
    if unknown := {row["model"] for row in rows} - set(WIDTHS):
        refuse(
            f"{file} has the models {', '.join(sorted(unknown))}; this knows {', '.join(WIDTHS)}"
        )
    keys = swept(rows)
    return [StudyRow.of(_row(row, keys)) for row in rows]


def _row(row: dict[str, str], keys: Sequence[str]) -> dict[str, Any]:
    values = {key: int(row[key]) if row[key].isdigit() else row[key] for key in keys}
    experts = int(row["model.num_experts"])
    summary = {
        "loss": {"mean": float(row["loss/mean"])},
        "bits_per_byte": {"mean": float(row["bits_per_byte/mean"])},
        "tokens": int(row["tokens"]),
        "parameters": {"active": float(row["parameters/active"])},
        "flops_per_token": {"forward": forward(row["model"], experts)},
    }
    return {"run": row["run"], "values": values, "status": "done", "summary": summary}


def forward(model: str, experts: int) -> int:
    """FLOPs per token, attention and output too."""
    default, width = RunConfig(), WIDTHS[model]
    changed = dataclasses.replace(
        default.model, name=model, d_model=width, d_ff=4 * width, num_experts=experts
    )
    return dataclasses.replace(default, model=changed).flops_per_token


def markdown(told: dict[str, Any]) -> Iterator[str]:
    for part in (forms, held_out, constants, cells):
        yield from part(told)
        yield ""


def every(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The forms, the law of the page first."""
    return [told, *told["other_forms"]]


def forms(told: dict[str, Any]) -> Iterator[str]:
    yield f"Held out: {told['split']}.\n"
    yield "| form | inside | mean error, log loss | noise of the fit | pinned | accepted |"
    yield "| --- " * 6 + "|"
    for one in every(told):
        inside = f"{sum(cell['inside'] for cell in one['held_out'])} of {len(one['held_out'])}"
        pinned = ", ".join(f"{name} {value:.3g}" for name, value in one["pinned"].items()) or "–"
        accepted = "yes" if one["accepted"] else "no"
        numbers = f"{one['error']:.4f} | {one['noise']:.4f}"
        yield f"| {WHOSE[one['form']]} | {inside} | {numbers} | {pinned} | {accepted} |"


def held_out(told: dict[str, Any]) -> Iterator[str]:
    names = [one["form"] for one in every(told)]
    yield f"| active | tokens | experts | measured | {' | '.join(names)} |"
    yield "| --- " * (4 + len(names)) + "|"
    for row in zip(*(one["held_out"] for one in every(told)), strict=True):
        one = row[0]
        head = (
            f"{si(one['active'])} | {si(one['tokens'])} | {one['experts']} | {one['measured']:.3f}"
        )
        predicted = [
            f"{c['predicted']:.3f} ({c['interval'][0]:.3f} to {c['interval'][1]:.3f})"
            + ("" if c["inside"] else " outside")
            for c in row
        ]
        yield f"| {head} | {' | '.join(predicted)} |"


def constants(told: dict[str, Any]) -> Iterator[str]:
    yield f"| constant of {WHOSE[told['form']]} | value | 90 % interval |"
    yield "| --- | --- | --- |"
    for name, one in told["constants"].items():
        if one["fitted"]:
            low, high = (fixed(end) for end in one["interval"])
            yield f"| {name} | {fixed(one['value'])} | {low} to {high} |".replace("-", "−")
    yield "\n" + "\n".join(f"- {line}" for line in told["warnings"])


def cells(told: dict[str, Any]) -> Iterator[str]:
    yield "| active | tokens | best | not told from it | lead over dense |"
    yield "| --- " * 5 + "|"
    for one in told["cells"]:
        lead = one["lead"]
        ahead = "–"
        if lead:
            low, high = lead["interval"]
            middle = sum(lead["paired"]) / len(lead["paired"])
            ahead = f"{signed(middle)} ({signed(low)}, {signed(high)})"
        rivals = ", ".join(map(str, one["rivals"]))
        head = f"{si(one['active'])} | {si(one['tokens'])} | {one['experts']}"
        yield f"| {head} | {rivals} | {ahead} |"


def main(arguments: Sequence[str]) -> int:
    if len(arguments) > 1:
        refuse("one table at most: python -m experiments.scaling_law.refit [<study.csv>]")
    file = Path(arguments[0]) if arguments else KNOWN
    content, files = section("scaling_law", cells_of(file))
    if "law.json" not in files:
        refuse(f"{file}: {content['sentence'] if content else 'neither size nor tokens vary'}")
    for name, written in files.items():
        (file.parent / name).write_bytes(written)
    told = json.loads(files["law.json"])
    print("\n".join(markdown(told)).replace("\xa0", " "))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
