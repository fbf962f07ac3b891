"""Whether runs were trained on the text that their configuration names now.

A run's id covers the names of its text, not the text: files are edited, a relative path means
another folder elsewhere, a package is updated. So a run records the fingerprint of its text, and
whatever takes the run up again compares first.
"""

from collections.abc import Iterable
from pathlib import Path

from glam.config import DataConfig
from glam.data.documents import text_fingerprint
from glam.data.sources import checked_sources
from glam.errors import UserError
from glam.log import log
from glam.progress import stage
from glam.runs.folder import RunFolder
from glam.units import counted


def check_same_text(
    runs: Iterable[tuple[RunFolder, DataConfig]],
    consequence: str,
    cache: Path | None = None,
    *,
    is_read: bool = False,
) -> None:
    """Raises UserError where one of the runs was trained on other text than its `DataConfig` names
    now, with the `consequence` that this would have, and where a text that `is_read` afterwards is
    not here. Says of how many runs nothing can be told: their text is not here, or an earlier
    version of glam did not record it. Hashes of files that the folder `cache` remembers are not
    computed anew."""
    absent: dict[str, list[str]] = {}  # the runs, by what is missing
    unknown: list[str] = []
    for run, data in runs:
        if (recorded := run.text_fingerprint) is None:
            unknown.append(run.path.name)
            continue
        try:
            found = _fingerprint_here(data, cache)
        except UserError as error:
            if is_read:
                raise
            absent.setdefault(str(error), []).append(run.path.name)
            continue
        if found != recorded:
            raise UserError(
                f"{run.path.name} was trained on other text than its data.corpus names now: "
                f"{consequence}; bring that text back, or train it anew on this one with "
                f"rerun=true on its own line"
            )
    for reason, names in absent.items():
        log.warning(f"{_those(names)}: the text is not here, so it was not compared ({reason})")
    if unknown:
        log.info(
            f"{_those(unknown)}: no text is recorded (glam 0.2 or older), so none was compared"
        )


def _fingerprint_here(data: DataConfig, cache: Path | None) -> str:
    with stage("comparing the text"):
        return text_fingerprint(checked_sources(data), cache)


def _those(names: list[str]) -> str:
    return names[0] if len(names) == 1 else counted(len(names), "run")
