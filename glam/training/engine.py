"""What trains a model: torch on one device of this machine, or XLA on a mesh of devices."""

from typing import Any, Protocol

from lightning import Callback
from lightning.fabric.plugins.io import CheckpointIO

from glam.config import RunConfig
from glam.model import Glam
from glam.resources import Resources
from glam.training.module import TrainingModule

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}


class Engine(Protocol):
    """What differs between them, for `fit`."""

    @property
    def module(self) -> type[TrainingModule]: ...

    @property
    def static_shapes(self) -> bool:
        """Whether every expert needs as many seats for every batch."""
        ...

    def callbacks(self) -> list[Callback]:
        """The first of the callbacks."""
        ...

    def trainer_arguments(self, checkpoints: CheckpointIO) -> dict[str, Any]: ...

    def place(self, model: Glam) -> None:
        """On the devices, to be evaluated; nothing where it is there."""
        ...


class TorchEngine:
    """One device, step by step."""

    module = TrainingModule
    static_shapes = False

    def __init__(self, resources: Resources) -> None:
        self._device = resources.device

    def callbacks(self) -> list[Callback]:
        return []

    def trainer_arguments(self, checkpoints: CheckpointIO) -> dict[str, Any]:
        return {"accelerator": ACCELERATORS[self._device], "devices": 1, "plugins": [checkpoints]}

    def place(self, model: Glam) -> None:
        model.to(self._device)


def engine(config: RunConfig, resources: Resources) -> Engine:
    """Raises UserError where XLA finds other devices than the mesh is of."""
    if resources.device != "xla":
        return TorchEngine(resources)
    from glam.parallel.xla import XlaEngine

    return XlaEngine(config)
