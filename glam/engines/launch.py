"""Starts the command again in several processes, which train one model together, and waits."""

import logging
import os
import signal
import sys
import uuid
from typing import Any

from glam.config import HardwareConfig
from glam.errors import JobFailedError
from glam.machine.parent_watch import PARENT_PIPE
from glam.machine.processes import LOOPBACK
from glam.machine.resources import Resources, pin_threads

SECONDS_TO_SAVE = 600  # that a process has to save a checkpoint after it is told to stop


def launch(hardware: HardwareConfig, resources: Resources) -> None:
    """Start one process for each device of this node, and pass signals on. Raises SystemExit with
    the status of the main process, or of the first that failed, and JobFailedError where a TPU's
    runtime aborted it."""
    pin_threads(resources)
    if resources.device == "tpu":
        from glam.engines.tpu import set_launch_environment

        set_launch_environment(hardware.devices)
    _watch_this_process()
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.ERROR)  # the processes log their own errors
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=hardware.devices,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint=f"{LOOPBACK}:0",
        local_addr=LOOPBACK,
        max_restarts=0,
        shutdown_timeout=SECONDS_TO_SAVE,
    )
    run: Any = elastic_launch(config, sys.executable)
    try:
        run("-u", *sys.argv)
    except SignalException as stopped:
        raise SystemExit(128 + stopped.sigval) from None
    except ChildFailedError as failed:
        _, first = failed.get_first_failure()
        if resources.device == "tpu" and first.exitcode == -signal.SIGABRT:
            logging.disable(logging.NOTSET)
            raise JobFailedError(
                f"hardware={hardware.name}: process {first.local_rank} was aborted, as an "
                f"operation on a chip that is missing or taken aborts it; what it said stands "
                f"above, and the same command goes on from the last checkpoint"
            ) from None
        main = failed.failures.get(0)
        status = main.exitcode if main is not None and main.exitcode > 0 else first.exitcode
        raise SystemExit(status if status > 0 else 1) from None


def _watch_this_process() -> None:
    """Give them a pipe as stdin, which breaks when this process dies, however it dies."""
    theirs, ours = os.pipe()
    os.dup2(theirs, 0)
    os.close(theirs)
    os.set_inheritable(ours, False)
    os.environ[PARENT_PIPE] = "1"
