"""`python -m experiments.redraw <study.csv> [<figure> …]`: the figures of a committed table, drawn
as a study's page draws them today, into the folder of the table. Without names, all of them.
`compares=<key> baseline=<value>` among the words say what the study compares; without them it is
the number of experts, or the first key that it sweeps."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.tables import finished, refuse, swept
from glam.config import StudyConfig
from glam.reporting import study_report

KINDS = (".png", ".svg")


def rows(table: list[dict[str, str]], keys: list[str]) -> list[dict[str, Any]]:
    """As `StudyFolder.rows` gathers them; of a table's summary columns losses and scores alone."""
    return [
        {
            "run": row["run"],
            "values": {key: _number(row[key]) for key in keys},
            "status": row["status"],
            "summary": {"status": row["status"], "loss": _losses(row), "tasks": _tasks(row)},
            "error": None,
        }
        for row in table
    ]


def _losses(row: dict[str, str]) -> dict[str, float]:
    named = {name.removeprefix("loss/"): text for name, text in row.items() if "loss/" in name}
    return {name: float(text) for name, text in named.items() if text}


def _tasks(row: dict[str, str]) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by suite and task."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, text in row.items():
        if name.startswith("tasks/") and text:
            _, suite, task = name.split("/", 2)
            found.setdefault(suite, {})[task] = {"value": float(text)}
    return found


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text


def redraw(file: Path, names: list[str], study: StudyConfig | None = None) -> list[Path]:
    """Returns the files written."""
    table = finished(file)
    keys = swept(table)
    with tempfile.TemporaryDirectory() as folder:
        study_report(Path(folder), rows(table, keys), keys, study)
        drawn = [f for f in sorted(Path(folder).iterdir()) if f.suffix in KINDS]
        stems = {f.stem for f in drawn}
        if not drawn or not stems.issuperset(names):
            refuse(f"{file} has {', '.join(sorted(stems)) or 'no figure'}; name one of these")
        chosen = [f for f in drawn if not names or f.stem in names]
        return [Path(shutil.copy(f, file.parent)) for f in chosen]


def main(words: list[str]) -> None:
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    names = [word for word in words if "=" not in word]
    if not names or not {*pairs} <= {"compares", "baseline"}:
        refuse("name a study's table: python -m experiments.redraw <study.csv>")
    for written in redraw(Path(names[0]), names[1:], StudyConfig(**pairs)):
        print(written)


if __name__ == "__main__":
    main(sys.argv[1:])
