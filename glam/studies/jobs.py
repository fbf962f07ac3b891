"""A cell as a job: the process that trains it, and what it needs of a machine."""

import dataclasses
import sys

from glam.config import ROOT
from glam.planning.memory import memory
from glam.studies.pool import Job, cell_file
from glam.studies.study import TrainingCell


def job_of(cell: TrainingCell, *, remote: bool = False) -> Job:
    """The job of a cell. Its process gets the configuration as it was composed here, and the
    threads of one of many, and composes nothing; `remote`: with the precision and device that this
    machine chose, too."""
    if remote:
        cell = cell.as_resolved_here()
    elif cell.config.hardware.threads is None and not cell.config.hardware.is_xla:
        cell = cell.with_hardware(threads=cell.resources.threads)  # alone it would take more
    config, resources, run = cell.config, cell.resources, cell.run
    processes = config.hardware.devices if config.hardware.is_cluster else 1
    sharing = processes if resources.device == "cpu" else 1  # the machine's memory
    return Job(
        name=config.study.cell or run.path.name,
        command=[sys.executable, str(ROOT / "run.py"), "--cell", str(cell_file(run))],
        cell={"config": dataclasses.asdict(config), "overrides": cell.overrides},
        run=run,
        threads=resources.threads * processes,
        memory_bytes=memory(config, resources.precision).total * sharing,
        device_bytes=resources.memory_bytes * sharing,
        max_jobs=config.hardware.max_jobs,
    )
