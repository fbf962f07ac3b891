"""`task=list`: the runs and studies in `runs_dir`."""

from glam.config import ListTaskConfig, RunConfig
from glam.errors import UserError
from glam.log import log
from glam.runs.listing import list_runs, list_studies


def list_all(config: RunConfig, overrides: list[str]) -> None:
    """Print state, differences from the default, losses, date and size, newest first."""
    from glam.reporting import runs_table

    task = config.task
    assert isinstance(task, ListTaskConfig)
    if config.runs_path.is_file():
        raise UserError(f"runs_dir={config.runs_dir} is a file; name the folder of the runs")
    runs, studies = list_runs(config.runs_path), list_studies(config.runs_path)
    match task.format:
        case "json":
            print(runs_table.as_json(runs, studies))
        case "csv":
            print(runs_table.as_csv(runs, studies), end="")
        case _:
            runs_table.print_runs(runs, studies)
            if not runs and not studies:
                log.info(f"no runs in {config.runs_path} yet; python run.py trains one")
