"""The page, the table and the figures of a study."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from glam.analysis.machines import machine_words, unlike_machines
from glam.analysis.paired import (
    EXPERTS,
    Comparison,
    Difference,
    StudyRow,
    combinations,
    differences,
    domains,
    gain_per_doubling,
    interval,
    lowest,
    series,
    values_of,
)
from glam.config import StudyConfig
from glam.reporting import law as scaling
from glam.reporting import study_curves, study_experts, study_table
from glam.reporting import study_figures as figures
from glam.reporting.page import Plot, render
from glam.reporting.theme import save
from glam.runs.folder import write_atomically
from glam.runs.record import Record
from glam.units import DASH, fixed, si, signed

MOST_ABSENT = 12
MOST_SERIES = 4  # that have a sentence each


def write(
    study_dir: Path, rows: list[dict[str, Any]], swept: list[str], study: StudyConfig
) -> None:
    cells = [StudyRow.of(row) for row in rows]
    compared = Comparison.of(study, swept, cells)
    study_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(study_dir / "study.csv", study_table.as_csv(cells, swept))
    records = {
        cell.run: Record.read(folder)
        for cell in cells
        if (folder := study_dir.parent.parent / cell.run).is_dir()
    }
    sections, files = _figures(study_dir.name, cells, compared)
    while_training = study_curves.section(cells, records, compared.key)
    by_domain = study_experts.section(cells, records, compared.key)
    sections += [section for section in (while_training, by_domain) if section]
    law, law_files = scaling.section(study_dir.name, cells)
    files |= law_files
    for name, content in files.items():
        (study_dir / name).write_bytes(content)
    names = domains(cells)
    unlike = unlike_machines(cells)
    machines = machine_words(cells) if unlike else [None] * len(cells)
    page = render(
        "study.html.j2",
        name=study_dir.name,
        sentence=sentence(cells, swept),
        finding=finding(cells, compared, study.budget),
        unlike_machines=unlike,
        sections=sections,
        law=law,
        files=[name for name in files if name.endswith(".png")],
        columns=study_table.columns(swept, names, with_machine=bool(unlike)),
        rows=[
            study_table.row(cell, swept, names, study_dir, machine)
            for cell, machine in zip(cells, machines, strict=True)
        ],
        is_running=any(cell.progress for cell in cells),
        pairs=_pairs(cells, compared),
        absent=absent(cells, swept),
    )
    write_atomically(study_dir / "study.html", page)


def sentence(cells: Sequence[StudyRow], swept: Sequence[str]) -> str:
    """How much of the study there is."""
    states = [cell.status for cell in cells]
    count = f"{len(cells)} {'run' if len(cells) == 1 else 'runs'}"
    parts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    over = [f"{figures.label_of(key)} ({len(values_of(key, cells))})" for key in swept]
    ending = f", over {' and '.join(over)}" if over else ""
    return f"{count}{ending}: {parts}." if parts else f"{count}{ending}."


def finding(
    cells: Sequence[StudyRow], compared: Comparison, budget: str | None = None
) -> list[str]:
    """What the study says, in sentences with numbers; only what it can back."""
    key, reference = compared.key, compared.reference
    if key is None or key == "seed":
        return []
    said: list[str] = []
    lines = series(cells, key)
    if len(lines) > MOST_SERIES:
        return _over_all(list(lines.values()), key, reference)
    for label, members in lines.items():
        where = f" ({label})" if label else ""
        if reference is None:
            best = lowest(members, key)
            words = [_lowest(best, key)] if best else []
        else:
            words = _compared(members, key, reference, budget)
        said += [f"{line}{where}." for line in words]
    return said


def _over_all(lines: list[list[StudyRow]], key: str, reference: Any) -> list[str]:
    """A sentence for every value, over all combinations of what else is swept."""
    found = [one for cells in lines for one in differences(cells, key, reference, "mean")]
    said: list[str] = []
    for value in dict.fromkeys(one.value for one in found):
        means = [one.mean for one in found if one.value == value]
        said.append(
            f"Mean held-out loss with {figures.label_of(key)} {value} against {reference}: from "
            f"{signed(min(means))} to {signed(max(means))} nats over {len(means)} combinations of "
            f"what else is swept."
        )
    return said


def _lowest(best: tuple[Any, float], key: str) -> str:
    return f"Lowest mean held-out loss: {fixed(best[1])} at {figures.label_of(key)} {best[0]}"


def _compared(cells: Sequence[StudyRow], key: str, reference: Any, budget: str | None) -> list[str]:
    found = differences(cells, key, reference, "mean")
    if not found:
        return []
    best = min(found, key=lambda one: one.mean)
    said = [_best(best, key, reference, _terms(cells, key, budget))]
    slopes = gain_per_doubling(cells, "mean") if key == EXPERTS else []
    if slopes:
        mean = signed(sum(slopes) / len(slopes), 4)
        said.append(
            f"Each doubling of the experts changes it by {mean} nats"
            f"{_interval(interval(slopes), 4)}, by a straight line through the runs of each seed"
        )
    return said


def _best(best: Difference, key: str, reference: Any, terms: str) -> str:
    seeds = f"{best.num_seeds} {'seed' if best.num_seeds == 1 else 'seeds'}"
    change = f"{signed(best.mean)} nats{_interval(best.interval)}"
    if not is_dense(key, reference):
        label = figures.label_of(key)
        return (
            f"Mean held-out loss with {label} {best.value} against {reference}{terms}: "
            f"{change}, {seeds}"
        )
    return (
        f"With {best.value} experts the mean held-out loss differs from the dense twin’s by "
        f"{change}{terms}, {seeds}"
    )


def _terms(cells: Sequence[StudyRow], key: str, budget: str | None) -> str:
    """On what terms the cells are compared: as the study was checked for, and as they came out."""
    if not equal_tokens(cells):
        return " at equal training FLOPs" if budget == "flops" else ""
    if key == EXPERTS or budget == "flops":
        return " at equal training tokens and FLOPs per token"
    return " at equal training tokens" if budget == "tokens" else ""


def equal_tokens(cells: Sequence[StudyRow]) -> bool:
    return len({cell.summary.get("tokens") for cell in cells if cell.summary}) == 1


def _interval(found: tuple[float, float] | None, digits: int = 3) -> str:
    if found is None:
        return ""
    return f" (95 % interval {signed(found[0], digits)} to {signed(found[1], digits)})"


def _figures(
    study: str, cells: Sequence[StudyRow], compared: Comparison
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Sections of the page with their figures, and the files for paper."""
    names = [n for n in domains(cells) if any(cell.loss(n) is not None for cell in cells)]
    key, reference = compared.key, compared.reference
    if not names or key is None:
        return [], {}
    stem = figures.label_of(key).replace(" ", "_").replace("/", "_")
    draw = figures.loss_by(cells, key)
    plots = figures.on_page(draw, names, "loss", lambda n: figures.loss_words(cells, key, n))
    paper = figures.on_paper(draw, names, "held-out loss (nats per token)")
    sections = [_section("loss", _loss_title(key), _loss_caption(key, cells), plots)]
    files = save(paper, f"loss_by_{stem}", study)
    if _is_compared(cells, compared):
        plots, paper = _differences(cells, key, reference, names)
        title = f"Difference to {_reference(key, reference)}"
        caption = _difference_caption(cells, key, reference)
        sections.append(_section("difference", title, caption, plots))
        files |= save(paper, f"difference_by_{stem}", study)
    return sections, files


def _is_compared(cells: Sequence[StudyRow], compared: Comparison) -> bool:
    """Whether any run has a partner with its seed at the baseline."""
    key, reference = compared.key, compared.reference
    if key is None or reference is None:
        return False
    return any(differences(line, key, reference, "mean") for line in series(cells, key).values())


def _differences(
    cells: Sequence[StudyRow], key: str, reference: Any, names: Sequence[str]
) -> tuple[list[Plot], Figure]:
    """For the page and for paper: curves over the experts, or a row a domain for words."""

    def words(name: str) -> str:
        return figures.difference_words(cells, key, reference, name)

    if key == EXPERTS:
        draw = figures.difference_by_experts(cells, reference)
        plots = figures.on_page(draw, names, "difference", words)
        label = f"difference to {_reference(key, reference)} (nats per token)"
        return plots, figures.on_paper(draw, names, label)
    draw = figures.forest(cells, key, reference, names)
    size = (5.0, 1.4 + 0.3 * len(names))
    described = " ".join(words(name) for name in names)
    plots = figures.on_page(draw, [""], "difference", lambda _: described, size=size)
    return plots, figures.on_paper(draw, [""], "", size=size)


def _section(name: str, title: str, caption: str, plots: list[Plot]) -> dict[str, Any]:
    return {"id": name, "title": title, "caption": caption, "plots": plots, "kind": "small"}


def _loss_title(key: str) -> str:
    return "Loss by number of experts" if key == EXPERTS else f"Loss by {figures.label_of(key)}"


def _loss_caption(key: str, cells: Sequence[StudyRow]) -> str:
    words = (
        "Held-out loss in nats per token. A dot is a run; the line joins the means over the seeds."
    )
    if max(map(len, _by_value(cells, key)), default=0) >= figures.FEW_SEEDS:
        words += " Bars are 95 % t intervals of the mean, over the seeds."
    if key != EXPERTS:
        return words
    flops = [f for cell in cells if (f := cell.part("flops_per_token").get("forward"))]
    if not flops:
        return words
    low, high = si(min(flops), "FLOP"), si(max(flops), "FLOP")
    cost = low if low == high else f"{low} to {high}"
    return f"{words} Every model spends {cost} per token forward, the router included."


def _by_value(cells: Sequence[StudyRow], key: str) -> list[list[StudyRow]]:
    """The finished runs of every dot's place on the figures."""
    measured = [cell for cell in cells if cell.loss("mean") is not None]
    return [members for _, _, members in combinations(measured, key)]


def is_dense(key: str, reference: Any) -> bool:
    return key == EXPERTS and reference == 1


def _reference(key: str, reference: Any) -> str:
    if is_dense(key, reference):
        return "the dense twin"
    return f"{figures.label_of(key)} {reference}"


def _difference_caption(cells: Sequence[StudyRow], key: str, reference: Any) -> str:
    counts = [
        one.num_seeds
        for members in series(cells, key).values()
        for one in differences(members, key, reference, "mean")
    ]
    words = "Runs of the same seed are paired; negative is better."
    if counts and max(counts) >= 2:
        span = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        words += f" Faint dots are pairs, bars 95 % t intervals over {span} seeds."
        if min(counts) < figures.FEW_SEEDS:
            words += " Of two seeds, an interval may leave its panel; the table has it whole."
        return words
    return f"{words} One seed says nothing of the noise: add seeds for intervals."


def _pairs(cells: Sequence[StudyRow], compared: Comparison) -> dict[str, Any] | None:
    """The table of differences: a row a value, a column a domain."""
    key, reference = compared.key, compared.reference
    if key is None or reference is None:
        return None
    names = domains(cells)
    rows: list[dict[str, Any]] = []
    for label, members in series(cells, key).items():
        by_domain = {
            name: {one.value: one for one in differences(members, key, reference, name)}
            for name in names
        }
        for value in by_domain.get("mean", {}):
            texts = [_pair(by_domain[name].get(value)) for name in names]
            rows.append({"value": value, "label": label, "texts": texts})
    return {
        "title": f"Differences to {_reference(key, reference)}",
        "key": figures.label_of(key),
        "domains": names,
        "rows": rows,
    }


def _pair(one: Difference | None) -> str:
    if one is None:
        return DASH
    if one.interval is None:
        return signed(one.mean)
    return f"{signed(one.mean)} ± {fixed((one.interval[1] - one.interval[0]) / 2)}"


def absent(cells: Sequence[StudyRow], swept: Sequence[str]) -> list[str]:
    """Combinations of the swept values that no cell of the study has."""
    present = [[cell.values.get(key) for key in swept] for cell in cells]
    every = itertools.product(*(values_of(key, cells) for key in swept))
    missing = [list(one) for one in every if list(one) not in present]
    lines = [
        ", ".join(f"{figures.label_of(k)} {v}" for k, v in zip(swept, one, strict=True))
        for one in missing[:MOST_ABSENT]
    ]
    rest = len(missing) - MOST_ABSENT
    return [*lines, f"and {rest} more"] if rest > 0 else lines
