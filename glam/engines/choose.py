"""The choice of the engine, made here and nowhere else."""

from glam.config import RunConfig
from glam.engines.one_device import OneDevice
from glam.machine.resources import Resources
from glam.training.engine import Engine


def choose_engine(config: RunConfig, resources: Resources) -> Engine:
    """The engine for `config.hardware`. Raises UserError where XLA finds fewer or more devices than
    the mesh has."""
    if config.hardware.is_cluster:
        from glam.engines.fsdp import FsdpEngine  # imports torch.distributed

        return FsdpEngine(config, resources.device)
    if resources.device != "xla":
        return OneDevice(config, resources)
    from glam.engines.xla import XlaEngine  # imports torch_xla

    return XlaEngine(config)
