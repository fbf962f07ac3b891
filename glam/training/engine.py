"""What trains a model: torch on one device of this machine, processes of torch on several, or XLA
on a mesh of devices."""

from collections.abc import Mapping
from typing import Any, Protocol

from lightning import Callback
from lightning.fabric.plugins.io import CheckpointIO
from torch import Tensor

from glam.config import RunConfig
from glam.model import Glam
from glam.peers import ALONE, Peers
from glam.resources import Resources
from glam.training.checkpoint import FolderCheckpointIO
from glam.training.ledger import Ledger
from glam.training.module import TrainingModule

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}


class Engine(Protocol):
    """What differs between them, for `fit`."""

    @property
    def peers(self) -> Peers: ...

    def module(self, model: Glam, config: RunConfig, ledger: Ledger) -> TrainingModule: ...

    def materialize(self, model: Glam, seed: int | None) -> None:
        """Gives a model on the meta device its memory; and its initial values, with a seed."""
        ...

    def checkpoints(self, fingerprints: dict[str, str]) -> FolderCheckpointIO:
        """How they are written and read."""
        ...

    @property
    def static_shapes(self) -> bool:
        """Whether every expert needs as many seats for every batch."""
        ...

    def callbacks(self) -> list[Callback]:
        """The first of the callbacks."""
        ...

    def trainer_arguments(self, checkpoints: CheckpointIO) -> dict[str, Any]: ...

    def load(self, module: TrainingModule, weights: Mapping[str, Tensor]) -> None:
        """The weights of a finished run, by their names in a checkpoint."""
        ...

    def place(self, model: Glam) -> None:
        """On the devices, to be evaluated; nothing where it is there."""
        ...


class OneProcess:
    """What a single process does, whatever its devices: weights begin on the CPU, whole."""

    peers = ALONE

    def checkpoints(self, fingerprints: dict[str, str]) -> FolderCheckpointIO:
        return FolderCheckpointIO(fingerprints)

    def materialize(self, model: Glam, seed: int | None) -> None:
        model.to_empty(device="cpu")
        if seed is not None:
            model.initialize(seed)

    def load(self, module: TrainingModule, weights: Mapping[str, Tensor]) -> None:
        module.load_state_dict(weights)


class TorchEngine(OneProcess):
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
    if config.hardware.is_cluster:
        from glam.parallel.cluster import ClusterEngine

        return ClusterEngine(config, resources.device)
    if resources.device != "xla":
        return TorchEngine(resources)
    from glam.parallel.xla import XlaEngine

    return XlaEngine(config)
