"""`task=report`: a run's report or a study's page, written anew from what its folder holds."""

from glam.config import RunConfig
from glam.runs.folder import RunFolder
from glam.runs.study_folder import StudyFolder


def report(config: RunConfig, overrides: list[str]) -> None:
    """Write the page of `run=` or `study=`. With `logger=wandb` on the line, on W&B too: the
    study's artifact, and a workspace and a report."""
    from glam.reporting import run_report, write_study

    named = config.study.folder or str(config.run)
    found = StudyFolder.find(named) or RunFolder.at(named)
    print(write_study(found) if isinstance(found, StudyFolder) else run_report(found.path))
    if "logger=wandb" in overrides:
        from glam.tracking.study import track_study
        from glam.tracking.workspace import publish, subject_of

        if isinstance(found, StudyFolder):
            track_study(config.logger, found)
        publish(config.logger, subject_of(found))
