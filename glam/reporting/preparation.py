"""The page of a preparation: what each step left of the text."""

from pathlib import Path
from typing import Any

from glam.reporting import funnel, overlap
from glam.reporting.page import render
from glam.reporting.run import samples
from glam.runs.folder import write_atomically


def write(page: Path, data: dict[str, Any], overlaps: dict[str, Any]) -> None:
    """Write the page of the text that `data` describes, as `data.json` of a run does; `overlaps`
    with evaluation sets are as in `overlap.json`."""
    rows = data["funnel"]
    found = funnel.sources(rows)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        page,
        render(
            "preparation.html.j2",
            name="Preparation of text",
            sentence=f"{len(found)} domains of text, and what each step left of them.",
            funnel=funnel.table(found),
            funnel_amounts=funnel.amounts(found),
            funnel_figures=funnel.figures(found),
            funnel_notes=funnel.notes(rows),
            overlap=overlap.section(overlaps),
            samples=samples(data.get("samples") or {}),
            origins=data.get("origins") or [],
            provenance=[
                ("Tokens", data["fingerprint"]),
                ("Text", data.get("text_fingerprint") or ""),
                *[(name.replace("_", " "), value) for name, value in data["settings"].items()],
            ],
        ),
    )
