"""What the studies still take on this machine, from seconds per token that were measured."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from experiments.results import grids
from experiments.results.machines import machine_here, words
from experiments.results.speeds import MODELLED, ORDER, Speeds
from experiments.results.state import State
from glam.config import RunConfig
from glam.machine.resources import num_cores, resolve
from glam.studies.study import TrainingCell


class Cost(NamedTuple):
    """Of a study: what is left of it, beside what the studies before it train; `factors` are those
    of the sources."""

    state: State
    hours: float  # of this machine
    sources: tuple[str, ...]
    factors: dict[str, float]


def costs(states: Sequence[State]) -> list[Cost]:
    """In the order of the studies; a run that two have is counted in the first."""
    resources = resolve(RunConfig(), one_of_many=True)
    speeds, counted = Speeds.of(states, machine_here(resources)), set[str]()
    found: list[Cost] = []
    for state in states:
        seconds, sources = 0.0, set[str]()
        for cell in _first(state.left, counted):
            one = speeds.estimate(cell.config, cell.resources)
            seconds += one.seconds * cell.resources.threads
            sources.add(one.source)
        if state.study.script is not None:
            seconds *= 1 + state.study.script.extra
        ordered = [one for one in ("its budget", *ORDER) if one in sources]
        found.append(Cost(state, seconds / num_cores() / 3600, tuple(ordered), speeds.factors))
    return found


def _first(cells: Sequence[TrainingCell], counted: set[str]) -> Iterator[TrainingCell]:
    for cell in cells:
        place = str(cell.run.path) if grids.is_known(cell) else ""
        if place not in counted:
            yield cell
        if place:
            counted.add(place)


def table(found: Sequence[Cost]) -> str:
    """In Markdown."""
    lines = ["| study | runs | in its table | trained here | to train | hours | measured by |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for state, hours, sources, _ in found:
        by = ", ".join(sources) or ("trained above" if state.left else "done")
        runs = f"{len(state.cells)} | {state.rows} | {len(state.trained)} | {len(state.left)}"
        if not state.cells:
            runs, by = "| | | ", "reads tables"
        lines.append(f"| {state.study.name} | {runs} | {hours:.2f} | {by} |")
    total = sum(cost.hours for cost in found)
    left = sum(len(cost.state.left) for cost in found)
    lines.append(f"| all | | | | {left} | {total:.2f} | |")
    return "\n".join((*lines, "", *_notes(found)))


def _notes(found: Sequence[Cost]) -> Iterator[str]:
    here = machine_here(resolve(RunConfig(), one_of_many=True))
    yield f"Hours of this machine: {words(here)}, {num_cores()} cores. A run that two studies have"
    yield "is trained once, and its hours stand in the first."
    used = {source for cost in found for source in cost.sources}
    for source, factor in found[0].factors.items() if found else ():
        if source in used:
            yield f"Seconds per token of {source} are times {factor:.2f}, the median of runs here."
    if MODELLED in used:
        yield "These commands time the steps that no run has measured:"
    for cost in found:
        if MODELLED in cost.sources and cost.state.study.grid:
            yield f"    python run.py -m {cost.state.study.grid} task=plan task.calibrate=true"
