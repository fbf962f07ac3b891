"""The page, the table and the figures of a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from glam.analysis.machines import machine_words, unlike_machines
from glam.analysis.paired import (
    EXPERTS,
    Comparison,
    StudyRow,
    combinations,
    contrasts,
    differences,
    domains,
    series,
)
from glam.analysis.texts import unlike_texts
from glam.config import StudyConfig
from glam.reporting import law as scaling
from glam.reporting import (
    study_curves,
    study_experts,
    study_items,
    study_latex,
    study_pairs,
    study_table,
)
from glam.reporting import study_figures as figures
from glam.reporting.page import Plot, render
from glam.reporting.reproduce import provenance
from glam.reporting.study_tasks import Tasks
from glam.reporting.study_words import absent, finding, reference_words, sentence
from glam.reporting.theme import COLUMN, save
from glam.runs.folder import write_atomically
from glam.runs.record import Record
from glam.units import SPACE, si


def write(
    study_dir: Path, rows: list[dict[str, Any]], swept: list[str], study: StudyConfig
) -> None:
    """Write the study's page, tables and figures into `study_dir`. `rows`: one for each cell;
    `swept`: the keys that the cells differ in."""
    cells = [StudyRow.of(row) for row in rows]
    compared = Comparison.of(study, swept, cells)
    study_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(study_dir / "study.csv", study_table.as_csv(cells, swept))
    found = contrasts(cells, compared)
    write_atomically(study_dir / "study.tex", study_latex.as_latex(cells, compared, found))
    records = {
        cell.run: Record.read(folder)
        for cell in cells
        if (folder := study_dir.parent.parent / cell.run).is_dir()
    }
    sections, files = _figures(study_dir.name, cells, compared)
    while_training = study_curves.section(cells, records, compared.key)
    by_domain = study_experts.section(cells, records, compared.key)
    tasks = Tasks(cells, compared)
    sections += [one for one in (tasks.section(), while_training, by_domain) if one]
    files |= _task_files(study_dir.name, tasks)
    law, law_files = scaling.section(study_dir.name, cells)
    files |= law_files
    for name, content in files.items():
        (study_dir / name).write_bytes(content)
    names = domains(cells)
    suites = list(dict.fromkeys(suite for suite, _ in study_table.task_names(cells)))
    unlike = unlike_machines(cells)
    machines = machine_words(cells) if unlike else [None] * len(cells)
    page = render(
        "study.html.j2",
        name=study_dir.name,
        sentence=sentence(cells, swept),
        finding=[*finding(cells, compared, found, study.budget), *tasks.finding()],
        warnings=[line for line in (unlike, unlike_texts(cells)) if line],
        sections=sections,
        law=law,
        files=[name for name in files if name.endswith((".png", ".pdf"))],
        columns=study_table.columns(swept, names, suites, with_machine=bool(unlike)),
        rows=[
            study_table.row(cell, swept, names, study_dir, machine, suites)
            for cell, machine in zip(cells, machines, strict=True)
        ],
        is_running=any(cell.progress for cell in cells),
        pairs={"pairs": study_pairs.table(compared, found), "tasks-pairs": tasks.pairs()},
        items=study_items.table(cells, compared, study_dir.parent.parent),
        absent=absent(cells, swept),
        provenance=provenance(study_dir.name, cells, list(records.values()), swept, study),
    )
    write_atomically(study_dir / "study.html", page)


def _task_files(study: str, tasks: Tasks) -> dict[str, bytes]:
    """The figure of tasks for paper; none where nothing is compared by tasks."""
    if (drawn := tasks.papers()) is None:
        return {}
    stem, paper, column = drawn
    return {**save(paper, stem, study), **save(column, stem, study, ["pdf"])}


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
    column = figures.in_column(draw, names, "held-out loss (nats per token)")
    files |= save(column, f"loss_by_{stem}", study, ["pdf"])
    if _is_compared(cells, compared):
        plots, paper, column = _differences(cells, key, reference, names)
        title = f"Difference to {reference_words(key, reference)}"
        caption = _difference_caption(cells, key, reference)
        sections.append(_section("difference", title, caption, plots))
        files |= save(paper, f"difference_by_{stem}", study)
        files |= save(column, f"difference_by_{stem}", study, ["pdf"])
    return sections, files


def _is_compared(cells: Sequence[StudyRow], compared: Comparison) -> bool:
    """Whether any run has a partner with its seed at the baseline."""
    key, reference = compared.key, compared.reference
    if key is None or reference is None:
        return False
    return any(differences(line, key, reference, "mean") for line in series(cells, key).values())


def _differences(
    cells: Sequence[StudyRow], key: str, reference: Any, names: Sequence[str]
) -> tuple[list[Plot], Figure, Figure]:
    """For the page, for paper and for a column of it: curves over the experts, or for other keys a
    row a domain."""

    def words(name: str) -> str:
        return figures.difference_words(cells, key, reference, name)

    if key == EXPERTS:
        draw = figures.difference_by_experts(cells, reference)
        plots = figures.on_page(draw, names, "difference", words)
        label = f"difference to {reference_words(key, reference)} (nats per token)"
        column = figures.in_column(draw, names, label)
        return plots, figures.on_paper(draw, names, label), column
    draw = figures.forest(cells, key, reference, names)
    size = (5.0, 1.4 + 0.3 * len(names))
    described = " ".join(words(name) for name in names)
    plots = figures.on_page(draw, [""], "difference", lambda _: described, size=size)
    column = figures.in_column(draw, [""], "", size=(COLUMN, 1.1 + 0.2 * len(names)))
    return plots, figures.on_paper(draw, [""], "", size=size), column


def _section(name: str, title: str, caption: str, plots: list[Plot]) -> dict[str, Any]:
    return {"id": name, "title": title, "caption": caption, "plots": plots, "kind": "small"}


def _loss_title(key: str) -> str:
    return "Loss by number of experts" if key == EXPERTS else f"Loss by {figures.label_of(key)}"


def _loss_caption(key: str, cells: Sequence[StudyRow]) -> str:
    words = (
        "Held-out loss in nats per token. A dot is a run; the line joins the means over the seeds. "
        "All panels span the same number of nats."
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


def _difference_caption(cells: Sequence[StudyRow], key: str, reference: Any) -> str:
    counts = [
        one.num_seeds
        for members in series(cells, key).values()
        for one in differences(members, key, reference, "mean")
    ]
    words = "Runs of the same seed are paired; negative is better. All panels have the same axes."
    if key != EXPERTS:
        words = "Runs of the same seed are paired; negative is better."
    if counts and max(counts) >= 2:
        span = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        words += (
            f" Faint dots are pairs, bars 95{SPACE}% t intervals over {span} seeds, each for its "
            f"difference alone."
        )
        if min(counts) < figures.FEW_SEEDS:
            words += " An interval over two seeds may leave its panel; the table has it whole."
        return words
    return f"{words} Intervals need at least two seeds."
