"""Plans as people read them: a table in the terminal, a page with figures, a row in a CSV.

A plan is the mapping that `glam.planning.plan` makes; several stand beside one another.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glam.reporting import layout
from glam.reporting.console import Stdout
from glam.runs.folder import write_atomically
from glam.runs.record import mapping
from glam.units import DASH, SPACE, is_number, percent, si, whole

Plan = Mapping[str, Any]

FLOPS = ("attention", "feed_forward", "experts", "gate", "output")
BYTES = ("weights", "optimizer", "gradients", "activations", "other")
SENT = ("weights", "gradients", "activations", "experts")
LABEL_WIDTH, COLUMN_WIDTH = 32, 17


class Row(NamedTuple):
    label: str
    texts: list[str]
    kind: str = ""  # head | sum | note


def rows(plans: Sequence[Plan]) -> list[Row]:
    """The table, a column a plan. What no plan has is left out."""
    found = [
        *_section("Parameters, embedding apart", plans, _parameters),
        *_section("Products per token", plans, _flops),
        *_section("Memory of one device", plans, _bytes),
        *_section("Sent by one device in a step", plans, _sent),
        *_section("As the TPU's compiler has it, of one chip", plans, _compiled),
        *_section("The whole run", plans, _cost),
    ]
    return [row for row in found if row.kind == "head" or set(row.texts) != {DASH}]


def _section(
    title: str, plans: Sequence[Plan], texts: Callable[[Plan], dict[str, str]]
) -> Iterator[Row]:
    columns = [texts(plan) for plan in plans]
    labels = dict.fromkeys(label for column in columns for label in column)
    if not labels:
        return
    yield Row(title, [""] * len(plans), "head")
    for label in labels:
        kind = "sum" if label.startswith(("total", "forward", "hours", "MWh")) else ""
        yield Row(label, [column.get(label, DASH) for column in columns], kind)


def _parameters(plan: Plan) -> dict[str, str]:
    size, paper = plan["parameters"], mapping(plan["paper"])
    return {
        "total": si(size["total"]),
        "  as the paper printed": si(paper.get("total")),
        "active per token": si(size["active"]),
        "  as the paper printed ": si(paper.get("active")),
        "embedding": si(size["embedding"]),
    }


def _flops(plan: Plan) -> dict[str, str]:
    flops = plan["flops_per_token"]
    return {
        **{_words(part): _with_share(flops[part], flops["forward"], "FLOP") for part in FLOPS},
        "forward": si(flops["forward"], "FLOP"),
        "2 x active parameters": si(flops["active"], "FLOP"),
        "training (3 x forward)": si(flops["training"], "FLOP"),
    }


def _bytes(plan: Plan) -> dict[str, str]:
    held = plan["bytes_per_device"]
    if held is None:
        return {}
    texts = {part: _with_share(held[part], held["total"], "B") for part in BYTES}
    texts["  of it for dispatch"] = si(held["dispatch"] or None, "B")
    return {
        **texts,
        "total": si(held["total"], "B"),
        "layers kept": si(held["total_kept"], "B"),
        "layers rematerialized": si(held["total_rematerialized"], "B"),
        "a device has": si(held["available"], "B"),
        "fits": "yes" if held["fits"] else "NO",
    }


def _sent(plan: Plan) -> dict[str, str]:
    sent = plan["communication_bytes_per_step"]
    if not sent or not any(sent.values()):
        return {}
    total = sum(sent.values())
    return {
        **{f"{part} ": _with_share(sent[part], total, "B") for part in SENT},
        "total ": si(total, "B"),
    }


def _compiled(plan: Plan) -> dict[str, str]:
    said = mapping(plan["compiled"])
    if not said:
        return {}
    total = {
        "total  ": si(said["total_bytes"], "B"),
        "fits ": "yes" if said["fits"] else "NO",
        "compiled in": f"{said['seconds']:.0f} s",
    }
    if not said["fits"]:
        return total
    ratio = f"{said['flops'] / said['flops_by_hand']:.2f}x"
    return {
        "arguments": si(said["argument_bytes"], "B"),
        "temporaries": si(said["temporary_bytes"], "B"),
        **total,
        "products of a step": si(said["flops"], "FLOP"),
        "  over the hand count": ratio if said["flops_comparable"] else "one turn of a loop",
        **dict(_sent_in(said["collectives"], "")),
        **dict(_sent_in(said["gathers"], "gathered ")),
        "expert weights moved": str(said["expert_weights_moved"] or "none"),
    }


def _sent_in(sent: Mapping[str, Mapping[str, int]], before: str) -> Iterator[tuple[str, str]]:
    for name, one in sent.items():
        yield before + name, f"{si(one['bytes'], 'B')} in {one['count']:,}"


def _cost(plan: Plan) -> dict[str, str]:
    return {
        "devices": whole(plan["devices"]),
        "tokens": si(plan["tokens"]),
        "tokens per step": si(plan["tokens_per_step"]),
        "tokens per second": si(plan["tokens_per_second"]),
        "training FLOPs": f"{plan['training_flops']:.3g}",
        "hours": amount(plan["hours"]),
        "MWh": amount(plan["megawatt_hours"]),
        "tonnes of CO2": amount(plan["co2_tonnes"]),
    }


def amount(value: Any) -> str:
    """Three digits of a number that may be very small or large."""
    if not is_number(value):
        return DASH
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _words(part: str) -> str:
    return part.replace("_", " ")


def _with_share(value: float, total: float, unit: str = "") -> str:
    if not value:
        return DASH
    share = percent(value / total, 0).replace(SPACE, "")
    return f"{si(value, unit)} {share:>4}"


def notes(plans: Sequence[Plan]) -> list[str]:
    """Where the numbers under `The whole run` come from, each said once."""
    said = [
        f"Refused by the TPU's compiler: {refusal}."
        for plan in plans
        if (refusal := mapping(plan["compiled"]).get("refusal"))
    ]
    for plan in plans:
        said.append(f"Pace: {plan['pace_source']}.")
        watts = plan["watts"]
        if watts is None:
            said.append("Energy: the watts of a device are not known; set hardware.watts.")
        else:
            each = watts / plan["devices"]
            said.append(
                f"Energy: {each:,.4g} W a device ({plan['watts_source']}) x PUE {plan['pue']:g}; "
                f"{plan['grid_kg_per_kwh']:g} kg of CO2 per kWh ({plan['grid_source']})."
            )
        held = plan["bytes_per_device"]
        if held and not held["fits"]:
            said.append(_does_not_fit(plan, held))
        if held is None:
            why = plan["layout_problem"] or "its file has no mesh, so the layout is not known"
            where = f"{plan['model']} on {plan['hardware']}"
            said.append(f"No memory of one device for {where}: {why}.")
        elif plan["devices"] > 1:
            said.append(
                "Memory and what is sent are modelled from the layout, not measured; with "
                f"dispatcher {plan['dispatcher'] or 'none (dense)'}."
            )
    return list(dict.fromkeys(said))


def _does_not_fit(plan: Plan, held: Mapping[str, Any]) -> str:
    name = f"{plan['model']} does not fit on a device of {plan['hardware']} as configured"
    if held["total_rematerialized"] <= held["available"]:
        return f"{name}; with training.rematerialize=true it does."
    return f"{name}, nor with training.rematerialize=true; lower training.batch_size or split more."


def title(plan: Plan) -> str:
    """What is swept, where that is more than the model."""
    return str(plan["cell"] or plan["model"])


def print_plans(plans: Sequence[Plan], console: Console | None = None) -> None:
    """As many columns beside one another as the terminal is wide."""
    console = console or Stdout()
    fitting = max(1, (console.width - LABEL_WIDTH) // COLUMN_WIDTH)
    for start in range(0, len(plans), fitting):
        console.print(_table(plans[start : start + fitting]))
    if len(plans) == 1 and plans[0]["layout"]:
        console.print(_layout_table(plans[0]))
    for note in notes(plans):
        console.print(Text(note, style="bold" if note.startswith("Refused") else "dim"))


def _table(plans: Sequence[Plan]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    hardware = ", ".join(dict.fromkeys(str(plan["hardware"]) for plan in plans))
    table.add_column(f"hardware={hardware}", overflow="fold")
    for plan in plans:
        table.add_column(title(plan).replace(", ", ",\n"), justify="right", overflow="fold")
    for row in rows(plans):
        style = {"head": "bold dim", "sum": "bold"}.get(row.kind, "")
        indent = "" if row.kind == "head" else "  "
        table.add_row(Text(indent + row.label.rstrip()), *row.texts, style=style)
    return table


def _layout_table(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    for name in layout.NAMES:
        table.add_column(name, overflow="fold")
    for row in layout.rows(plan["layout"]):
        table.add_row(*row)
    return table


def as_json(plans: Sequence[Plan], *, several: bool) -> str:
    """One object, or an array where the line is a grid."""
    return json.dumps(plans if several else plans[0], indent=1)


def as_csv(plans: Sequence[Plan]) -> str:
    """A row a plan; nested names are joined by `/`."""
    flat = [dict(_flat(plan)) for plan in plans]
    names = list(dict.fromkeys(name for row in flat for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, part in value.items():
        if isinstance(part, dict):
            yield from _flat(mapping(part), f"{prefix}{name}/")
        elif not isinstance(part, list):
            yield prefix + name, "" if part is None else part


def write_plans(plans: Sequence[Plan], folder: Path) -> Path:
    """`plan.html`, `plan.csv` and the figures for paper; returns the page's path."""
    from glam.reporting.page import Plot, render
    from glam.reporting.plan_figure import description, parts
    from glam.reporting.theme import PAGE, PRINT, inline_svg, save

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.csv").write_text(as_csv(plans))
    for name, content in save(parts(plans, PRINT), "shares", folder.name).items():
        (folder / name).write_bytes(content)
    page = render(
        "plan.html.j2",
        name=folder.name,
        titles=[title(plan) for plan in plans],
        hardware=", ".join(dict.fromkeys(str(plan["hardware"]) for plan in plans)),
        plots=[Plot(svg=inline_svg(parts(plans, PAGE), "shares", description(plans)), caption="")],
        rows=rows(plans),
        notes=notes(plans),
        layouts=[
            {"model": p["model"], "rows": layout.rows(p["layout"])} for p in plans if p["layout"]
        ],
    )
    write_atomically(folder / "plan.html", page)
    return folder / "plan.html"
