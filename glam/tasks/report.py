"""`task=report`: a run's report or a study's page, written anew from what its folder holds."""

from glam.config import RunConfig
from glam.errors import UserError
from glam.runs.finding import find_run, find_study
from glam.runs.folder import RunFolder
from glam.runs.study_folder import StudyFolder
from glam.studies.comparable import warn_of_unlike_runs


def report(config: RunConfig, overrides: list[str]) -> None:
    """Write the page of `run=` or `study=`. With `logger=wandb` typed, on W&B too: the study's
    artifact, a workspace and a report."""
    from glam.reporting import run_report, write_study

    found = _asked_for(config)
    if isinstance(found, StudyFolder):
        print(write_study(found))
        warn_of_unlike_runs(found)
    else:
        found.check_files()
        found.run_config()  # damaged, it would cost the page that is there what it shows
        print(run_report(found.path))
    if "logger=wandb" in overrides:
        from glam.tracking.study import track_study
        from glam.tracking.workspace import publish, subject_of

        if isinstance(found, StudyFolder):
            track_study(config.logger, found)
        publish(config.logger, subject_of(found))


def _asked_for(config: RunConfig) -> RunFolder | StudyFolder:
    """`run=` may name a study's folder too, as `checkpoint=` did."""
    if config.study.folder is not None and config.run is not None:
        raise UserError(f"run={config.run} and study={config.study.folder}: name one of them")
    if config.study.folder is not None:
        return find_study(config.study.folder, config.runs_path)
    run = str(config.run)
    return StudyFolder.find(run) or find_run(run, config.runs_path, finished=False)
