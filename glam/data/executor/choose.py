"""The executor that a configuration names."""

from pathlib import Path

from glam.config import DataConfig
from glam.data.executor.pool import LocalExecutor
from glam.data.executor.stage import Executor


def executor_of(data: DataConfig, cache: Path) -> Executor:
    """Raises UserError for a cluster that this machine cannot reach. `cache` is the cache's
    folder, which all machines of a cluster see."""
    if data.executor == "local":
        return LocalExecutor(data.workers)
    # datatrove is an extra, and takes a second to import.
    from glam.data.executor.cluster import check_installed

    check_installed(data.executor)
    if data.executor == "slurm":
        from glam.data.executor.slurm import SlurmExecutor

        return SlurmExecutor(data.slurm, cache / ".executor")
    from glam.data.executor.ray import RayExecutor

    return RayExecutor(data.ray)
