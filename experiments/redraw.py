"""`python -m experiments.redraw <study.csv> [<figure> …]`: the figures of a committed table, drawn
as a study's page draws them today, into the folder of the table. Without names, all of them."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.tables import finished, refuse, swept
from glam.reporting import study_report

KINDS = (".png", ".svg")


def rows(table: list[dict[str, str]], keys: list[str]) -> list[dict[str, Any]]:
    """As `StudyFolder.rows` gathers them; of a table's summary columns the losses alone."""
    return [
        {
            "run": row["run"],
            "values": {key: _number(row[key]) for key in keys},
            "status": row["status"],
            "summary": {"status": row["status"], "loss": _losses(row)},
            "error": None,
        }
        for row in table
    ]


def _losses(row: dict[str, str]) -> dict[str, float]:
    named = {name.removeprefix("loss/"): text for name, text in row.items() if "loss/" in name}
    return {name: float(text) for name, text in named.items() if text}


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text


def redraw(file: Path, names: list[str]) -> list[Path]:
    """Returns the files written."""
    table = finished(file)
    keys = swept(table)
    with tempfile.TemporaryDirectory() as folder:
        study_report(Path(folder), rows(table, keys), keys)
        drawn = [f for f in sorted(Path(folder).iterdir()) if f.suffix in KINDS]
        chosen = [f for f in drawn if not names or f.stem in names]
        if not chosen:
            refuse(f"{file} has {', '.join(sorted({f.stem for f in drawn}))}; name one of these")
        return [Path(shutil.copy(f, file.parent)) for f in chosen]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        refuse("name a study's table: python -m experiments.redraw <study.csv>")
    for written in redraw(Path(sys.argv[1]), sys.argv[2:]):
        print(written)
