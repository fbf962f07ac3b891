"""Which text goes to which experts, across the runs of a study."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glam.analysis.paired import EXPERTS, StudyRow, combinations, in_words
from glam.reporting.experts import (
    LEGEND,
    chosen,
    domain_loads,
    domain_map,
    domains_of,
    most_loaded,
    specialisation,
)
from glam.reporting.page import Plot
from glam.reporting.study_figures import label_of
from glam.reporting.theme import PAGE, inline_svg
from glam.runs.record import Record
from glam.units import percent

MOST_MAPS = 6


def section(
    cells: Sequence[StudyRow], records: Mapping[str, Record], key: str | None
) -> dict[str, Any] | None:
    """A heat map for every combination, and how far the domains part in each; None where no run
    has experts and was measured by domain."""
    found = dict(chosen(list(_records(cells, records, key).items()), most=MOST_MAPS))
    plots: list[Plot] = []
    for i, (label, members) in enumerate(found.items()):
        # No mean over the seeds: which expert does what is another in each.
        record = members[0]
        layer, load = domain_loads(record)[-1]
        names = domains_of(record)
        figure = domain_map(
            f"{label}: layer {layer}" if label else f"Layer {layer}", names, load, PAGE
        )
        words = (
            f"{label}: load of the experts of layer {layer} by domain. {most_loaded(names, load)}"
        )
        plots.append(Plot(svg=inline_svg(figure, f"by-domain-{i}", words), caption=""))
    if not plots:
        return None
    caption = (
        f"Load of each expert on held-out text of each domain, at the end of training, in the last "
        f"layer with experts; the first seed of each. {LEGEND} {_apart(found)}"
    )
    title = "Which text goes where"
    return {"id": "experts", "title": title, "caption": caption, "plots": plots, "kind": ""}


def _records(
    cells: Sequence[StudyRow], records: Mapping[str, Record], key: str | None
) -> dict[str, list[Record]]:
    """By what is swept, the seed apart: the runs with experts, in the order of their seeds."""
    found: dict[str, list[Record]] = {}
    for value, line, members in combinations(cells, key):
        known = [records[one.run] for one in members if one.run in records]
        if sparse := [record for record in known if domain_loads(record)]:
            found[_label(key, value, line)] = sparse
    return found


def _label(key: str | None, value: Any, line: str) -> str:
    named = "" if value is None or key is None else f"{label_of(key)} {in_words(value)}"
    if key == EXPERTS and value is not None:
        named = f"{value} experts"
    return ", ".join(part for part in (named, line) if part)


def _apart(found: Mapping[str, list[Record]]) -> str:
    """The share of token choices that would have to move for all domains to use the experts alike,
    mean over layers and seeds."""
    shares = {
        label: float(
            np.mean([specialisation(load) for one in members for _, load in domain_loads(one)])
        )
        for label, members in found.items()
    }
    told = ", ".join(
        f"{percent(share)} ({label})" if label else percent(share)
        for label, share in shares.items()
    )
    return (
        f"Of a domain’s token choices, this share would have to go elsewhere for it to use the "
        f"experts as the average domain does, mean over layers and seeds: {told}."
    )
