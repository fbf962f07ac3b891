"""A study on W&B: an entry in the group of its runs, with table, page and fit, and all files as an
artifact."""

import csv
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glam.config import LoggerConfig
from glam.files import read_json_if_there
from glam.runs.contents import Law
from glam.runs.study_folder import StudyFolder
from glam.tracking.session import Entry, Guard, is_wanted, start

if TYPE_CHECKING:
    import wandb

KEPT = ("study.html", "study.csv", "study.tex", "law.json", "*.png", "*.svg", "*.pdf")


def track_study(logger: LoggerConfig, study: StudyFolder) -> None:
    """Log the files of the study's folder; nothing where the logger is not wandb."""
    session = start(logger, study.path, _entry(study)) if is_wanted(logger) else None
    if session is None:
        return
    guarded = Guard("the study is on disk all the same")
    with guarded():
        _log(session, study)
    with guarded():
        session.finish()


def _entry(study: StudyFolder) -> Entry:
    # A name may hold characters that an id must not; writing a study again updates its entry.
    digest = hashlib.sha256(study.name.encode()).hexdigest()[:10]
    return Entry(
        id=f"study-{digest}",
        name=study.name,
        group=study.name,
        job_type="study",
        tags=("study",),
        config={"study": study.name, "swept": study.swept},
    )


def _log(session: "wandb.Run", study: StudyFolder) -> None:
    import wandb

    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", study.name), type="study")
    for pattern in KEPT:
        for file in sorted(study.path.glob(pattern)):
            artifact.add_file(str(file))
    session.log_artifact(artifact)
    columns, rows = _table(study.path / "study.csv")
    table = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
    with (study.path / "study.html").open(encoding="utf-8") as page:
        session.log({"study/table": table, "study/page": wandb.Html(page, inject=False)})
    target: Any = session.summary
    target.update({f"law/{name}": value for name, value in _constants(study.path).items()})


def _table(file: Path) -> tuple[list[str | int], list[Any]]:
    """The header and the rows of a CSV: numbers as floats, empty cells as None."""
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    return [*header], [[_value(cell) for cell in row] for row in rows]


def _value(cell: str) -> Any:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _constants(study: Path) -> dict[str, float]:
    """Constants of the fitted scaling law; empty where the study has none."""
    way_out = "the study's command writes it again"
    law = read_json_if_there(study / "law.json", Law, way_out=way_out)
    constants = {} if law is None else law["constants"]
    fitted = {name: one["value"] for name, one in constants.items() if one["fitted"]}
    return {name: value for name, value in fitted.items() if value is not None}
