"""From a configuration to its task. Heavy imports wait for the task that needs them: a finished run
is skipped, and one that does not fit refused, before torch is loaded."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from glam.config import RunConfig
from glam.errors import UserError
from glam.log import configure, log
from glam.machine.environments import to_xla_environment
from glam.machine.parent_watch import watch_parent
from glam.machine.processes import rank, under_torchrun
from glam.machine.resources import resolve
from glam.progress import end_start
from glam.runs.folder import RunFolder
from glam.runs.initial import with_initial
from glam.studies.time_budget import (
    check_budget,
    time_budget_warning,
    time_to_token_budget,
)
from glam.tasks.analyze import analyze
from glam.tasks.bias import bias
from glam.tasks.evaluate import evaluate
from glam.tasks.export import export
from glam.tasks.generate import generate
from glam.tasks.list import list_all
from glam.tasks.plan import plan
from glam.tasks.prepare import prepare
from glam.tasks.report import report
from glam.tasks.train import train

SECONDS_TO_SPEAK = 20.0  # that the main process has to say why it refuses; it then stops the rest

# The configuration, and the overrides as typed, which suggestions extend.
Task = Callable[[RunConfig, list[str]], None]
TASKS: dict[str, Task] = {
    "train": train,
    "plan": plan,
    "prepare": prepare,
    "evaluate": evaluate,
    "analyze": analyze,
    "bias": bias,
    "generate": generate,
    "export": export,
    "report": report,
    "list": list_all,
}


def run_task(config: RunConfig, overrides: list[str]) -> None:
    """Run the task that `config.task` names; `overrides` are as typed, for suggestions."""
    follows = rank() > 0 and config.hardware.is_cluster  # else torchrun's variables are left over
    if follows:
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - the first speaks
    end_start()
    configure(config.log_level)
    watch_parent()
    if config.task.name == "train":
        config = with_initial(config)
    trains = config.task.name in ("train", "plan")
    seconds = config.training.seconds if trains else None
    if trains:
        check_budget(config, overrides)
    if seconds is not None:
        config, overrides, found = time_to_token_budget(config, resolve(config), overrides)
        [throughput] = found.values()
        tokens = config.training.tokens
        log.info(f"training.seconds: {tokens:,} tokens, at {throughput:,.0f} a second")
    if config.hardware.is_xla or config.hardware.is_cluster:
        _hand_over(config)
    try:
        TASKS[config.task.name](config, overrides)
    except UserError:
        if follows:
            # All are refused alike: the launcher must not stop the one that speaks.
            time.sleep(SECONDS_TO_SPEAK)
        raise
    if seconds is not None and config.task.name == "train":
        summary = RunFolder.of(config, resolve(config)).summary()
        if (line := time_budget_warning(seconds, summary)) is not None:
            log.warning(line)


def _hand_over(config: RunConfig) -> None:
    """Start again in the environment that has torch_xla, or as several processes, where needed."""
    name = config.task.name
    if name not in ("train", "evaluate", "analyze", "bias", "generate"):
        return
    if name != "train":
        raise UserError(
            f"task={name} works on one device, not on hardware={config.hardware.name}; "
            f"try hardware=auto"
        )
    resources = resolve(config)  # refuses first what this machine lacks
    if config.hardware.engine == "xla":
        to_xla_environment(f"hardware={config.hardware.name}")
    elif not under_torchrun():
        from glam.engines.launch import launch

        launch(config.hardware, resources)
        raise SystemExit(0)
