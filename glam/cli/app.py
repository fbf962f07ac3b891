"""Hydra composes the configuration and calls the task, here or through the sweeper."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from glam.composition.overrides import CONF, is_override
from glam.composition.schema import register, to_run_config


def run_with_hydra(arguments: list[str]) -> None:
    """Run the task that `arguments` ask for. Raises what the task raised."""
    register()
    raised: list[BaseException] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(composed: DictConfig) -> None:
        # Hydra prints a report of its own about an exception in here: ours is kept and raised.
        try:
            config = to_run_config(composed)
            from glam.tasks.run_task import run_task

            run_task(config, list(HydraConfig.get().overrides.task))
        except BaseException as error:
            raised.append(error)

    # Hydra's own parser wants its options before the overrides; people put `-m` anywhere.
    sys.argv = [sys.argv[0], *sorted(arguments, key=is_override)]
    job()
    if raised:
        raise raised[0]
