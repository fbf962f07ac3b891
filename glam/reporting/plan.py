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
from glam.reporting.plan_grid import print_grid, total_rows
from glam.reporting.plan_totals import Group, Totals, groups
from glam.runs.folder import write_atomically
from glam.runs.record import mapping
from glam.units import DASH, SPACE, duration, is_number, percent, si, whole

Plan = Mapping[str, Any]

FLOPS = ("attention", "feed_forward", "experts", "gate", "output")
BYTES = ("weights", "optimizer", "gradients", "activations", "other")
SENT = ("weights", "gradients", "activations", "experts")


class Row(NamedTuple):
    """A row of the table of plans: a text for each plan."""

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
        *_section("Preparing the text, once", plans, _preparation),
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
        kind = "sum" if label.startswith(("total", "forward", "time", "energy")) else ""
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
    texts = dict[str, str]()
    for part in BYTES:
        texts[part] = _with_share(held[part], held["total"], "B")
        if part == "activations":
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
        "compiled in": duration(said["seconds"]),
        "program by": _version(said, said["route"]),
        "compiler": _version(said, "libtpu"),
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
        "expert weights moved": DASH
        if said["expert_weights_moved"] is None
        else str(said["expert_weights_moved"] or "none"),
    }


def _version(said: Mapping[str, Any], package: str) -> str:
    return f"{package} {mapping(said['versions'])[package]}"


def _sent_in(sent: Mapping[str, Mapping[str, int]], before: str) -> Iterator[tuple[str, str]]:
    for name, one in sent.items():
        yield before + name, f"{si(one['bytes'], 'B')} in {one['count']:,}"


def _preparation(plan: Plan) -> dict[str, str]:
    told = mapping(plan["preparation"])
    if not told:
        return {}
    return {
        "files": whole(told["files"]),
        "  as they are stored": si(told["stored_bytes"], "B"),
        "  fetched from a hub": si(told["fetched_bytes"] or None, "B"),
        "text in them": si(told["text_bytes"], "B"),
        "disk": si(told["disk_bytes"], "B"),
        "  free there": si(told["free_bytes"], "B"),
        "  enough": "yes" if told["fits"] else "NO",
        "processes": whole(told["workers"]),
        "time ": duration(3600 * told["hours"]),
    }


def _cost(plan: Plan) -> dict[str, str]:
    return {
        "devices": whole(plan["devices"]),
        "tokens": si(plan["tokens"]),
        "tokens per step": si(plan["tokens_per_step"]),
        "tokens per second": si(plan["tokens_per_second"]),
        "training FLOPs": f"{plan['training_flops']:.3g}",
        "time": duration(3600 * plan["hours"]),
        "energy": _times(plan["megawatt_hours"], 1e6, "Wh"),
        "CO2": _mass(plan["co2_tonnes"]),
    }


def _times(value: Any, factor: float, unit: str) -> str:
    return si(factor * value, unit) if is_number(value) else DASH


def _mass(tonnes: Any) -> str:
    """Tonnes, or grams of less than one."""
    if is_number(tonnes) and tonnes >= 1:
        return f"{tonnes:,.3g}{SPACE}t" if tonnes < 1000 else f"{tonnes:,.0f}{SPACE}t"
    return _times(tonnes, 1e6, "g")


def _words(part: str) -> str:
    return part.replace("_", " ")


def _with_share(value: float, total: float, unit: str = "") -> str:
    if not value:
        return DASH
    share = percent(value / total, 0).replace(SPACE, "")
    return f"{si(value, unit)} {share:>4}"


def notes(plans: Sequence[Plan]) -> list[str]:
    """Where the numbers under `The whole run` come from and what does not fit, each said once."""
    refusals = (mapping(plan["compiled"]).get("refusal") for plan in plans)
    said = [f"Refused by the TPU's compiler: {refusal}." for refusal in refusals if refusal]
    unread = (mapping(plan["compiled"]).get("unread") for plan in plans)
    said += [f"What the compiled program sends cannot be read: {why}." for why in unread if why]
    for plan in plans:
        said.append(f"Throughput: {plan['throughput_source']}.")
        if told := mapping(plan["preparation"]):
            said.append(f"Preparation: {told['source']}.")
        said.append(_energy_note(plan))
        if plan["bytes_per_device"] and plan["devices"] > 1:
            said.append(
                "Memory and what is sent are modelled from the layout, not measured; with "
                f"dispatcher {plan['dispatcher'] or 'none (dense)'}."
            )
    for remark, models in _models_by(_memory_remark, plans).items():
        said.append(remark.format(models=", ".join(models)))
    return list(dict.fromkeys(said))


def _energy_note(plan: Plan) -> str:
    watts = plan["watts"]
    if watts is None:
        return "Energy: the watts of a device are not known; set hardware.watts."
    return (
        f"Energy: {watts / plan['devices']:,.4g} W a device ({plan['watts_source']}) x PUE "
        f"{plan['pue']:g}; {plan['grid_kg_per_kwh']:g} kg of CO2 per kWh ({plan['grid_source']})."
    )


def _models_by(
    remark: Callable[[Plan], str | None], plans: Sequence[Plan]
) -> dict[str, dict[str, None]]:
    """The models that a remark is about, in order: a grid of many says it once."""
    found: dict[str, dict[str, None]] = {}
    for plan in plans:
        if (text := remark(plan)) is not None:
            found.setdefault(text, {})[str(plan["model"])] = None
    return found


def _memory_remark(plan: Plan) -> str | None:
    """That a plan does not fit, or why its memory is not known, with a place for `{models}`."""
    held, hardware = plan["bytes_per_device"], plan["hardware"]
    if held is None:
        why = plan["layout_problem"] or "its file has no mesh, so the layout is not known"
        return f"No memory of one device for {{models}} on {hardware}: {_braced(why)}."
    if held["fits"]:
        return None
    line = f"Does not fit on a device of {hardware} as configured: {{models}};"
    if held["total_rematerialized"] <= held["available"]:
        return f"{line} with training.rematerialize=true it does."
    return f"{line} nor with training.rematerialize=true; lower training.batch_size or split more."


def _braced(text: str) -> str:
    """Safe in a format string."""
    return text.replace("{", "{{").replace("}", "}}")


def title(plan: Plan) -> str:
    """What is swept, where that is more than the model."""
    return str(plan["cell"] or plan["model"])


def print_plans(
    plans: Sequence[Plan], all_runs: Totals | None = None, console: Console | None = None
) -> None:
    """A plan in full; of a grid, whose totals are `all_runs`, totals and a row a model."""
    console = console or Console()
    if all_runs is not None:
        found = groups(plans)
        print_grid(found, all_runs, notes([group.plan for group in found]), console)
        return
    [plan] = plans
    console.print(_table(plan))
    if plan["layout"]:
        console.print(_layout_table(plan))
    for note in notes(plans):
        console.print(Text(note, style="bold" if note.startswith("Refused") else "dim"))


def _table(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(f"hardware={plan['hardware']}", overflow="fold")
    table.add_column(title(plan), justify="right", overflow="fold")
    for row in rows([plan]):
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
    """One object, or an array for a grid."""
    return json.dumps(plans if several else plans[0], indent=1)


def as_csv(plans: Sequence[Plan]) -> str:
    """A row a plan; nested names are joined by `/`. What no plan has is no column."""
    flat = [dict(_flat(plan)) for plan in plans]
    names = list(dict.fromkeys(name for row in flat for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values, but for lists and for what a plan does not have."""
    for name, part in value.items():
        if isinstance(part, dict):
            yield from _flat(mapping(part), f"{prefix}{name}/")
        elif part is not None and not isinstance(part, list):
            yield prefix + name, part


def _runs(found: Sequence[Group]) -> list[Row]:
    """How many runs each column stands for, where that is more than one."""
    if all(group.runs == 1 for group in found):
        return []
    return [Row("runs", [whole(group.runs) for group in found], "sum")]


def write_plans(plans: Sequence[Plan], folder: Path, all_runs: Totals | None = None) -> Path:
    """`plan.html`, `plan.csv` and the figures for paper; returns the page's path. A grid has its
    totals, `all_runs`, and a column for each distinct plan."""
    from glam.reporting.page import Plot, render
    from glam.reporting.plan_figure import DESCRIPTION, shares
    from glam.reporting.theme import PAGE, PRINT, inline_svg, save

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.csv").write_text(as_csv(plans))
    found = groups(plans)
    names, shown = [group.label for group in found], [group.plan for group in found]
    for name, content in save(shares(shown, names, PRINT), "shares", folder.name).items():
        (folder / name).write_bytes(content)
    figure = inline_svg(shares(shown, names, PAGE), "shares", DESCRIPTION)
    page = render(
        "plan.html.j2",
        name=folder.name,
        titles=names,
        hardware=", ".join(dict.fromkeys(str(plan["hardware"]) for plan in shown)),
        totals=total_rows(found, all_runs) if all_runs is not None else [],
        plots=[Plot(svg=figure, caption="")],
        rows=[*_runs(found), *rows(shown)],
        notes=notes(shown),
        layouts=[
            {"model": p["model"], "rows": layout.rows(p["layout"])} for p in shown if p["layout"]
        ],
    )
    write_atomically(folder / "plan.html", page)
    return folder / "plan.html"
