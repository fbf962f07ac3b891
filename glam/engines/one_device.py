"""Training on one device of this machine."""

from typing import Any

from lightning import Callback
from lightning.fabric.plugins.io import CheckpointIO

from glam.machine.processes import SINGLE
from glam.machine.resources import Resources
from glam.model import Glam
from glam.model.backend import ONE_DEVICE
from glam.model.saved_tensors import SavedTensors
from glam.training.checkpoint import FolderCheckpointIO
from glam.training.module import TrainingModule

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}


class OneProcess:
    """What engines of a single process share: weights are initialised on the CPU."""

    processes = SINGLE

    def checkpoints(self, provenance: dict[str, Any]) -> FolderCheckpointIO:
        return FolderCheckpointIO(provenance)

    def materialize(self, model: Glam, seed: int | None) -> None:
        model.to_empty(device="cpu")
        if seed is not None:
            model.initialize(seed)

    def load(self, module: TrainingModule, weights: SavedTensors) -> None:
        module.load_state_dict(weights)


class OneDevice(OneProcess):
    """See `glam.training.engine.Engine`."""

    module = TrainingModule
    backend = ONE_DEVICE

    def __init__(self, resources: Resources) -> None:
        self._device = resources.device

    def checkpoints(self, provenance: dict[str, Any]) -> FolderCheckpointIO:
        """Of a GPU, copied to the host and written while it trains on. A CPU would write no sooner
        for a copy, which takes as much memory again."""
        if self._device != "cuda":
            return super().checkpoints(provenance)
        from glam.engines.sharded_checkpoint import ShardedCheckpointIO  # torch.distributed

        return ShardedCheckpointIO(provenance, self.processes)

    def callbacks(self) -> list[Callback]:
        return []

    def trainer_arguments(self, checkpoints: CheckpointIO) -> dict[str, Any]:
        return {"accelerator": ACCELERATORS[self._device], "devices": 1, "plugins": [checkpoints]}

    def place(self, model: Glam) -> None:
        model.to(self._device)
