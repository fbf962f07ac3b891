"""Who does the tasks of a stage: processes of this machine, or jobs of a cluster.

A task fills one folder of the cache and depends on its inputs alone, so the result is the same for
any number of workers and for every executor; what is in the cache already is not made again.
"""

from glam.data.executor.choose import executor_of
from glam.data.executor.progress import advance, threads
from glam.data.executor.stage import Executor, StageTask, run_stage

__all__ = ["Executor", "StageTask", "advance", "executor_of", "run_stage", "threads"]
