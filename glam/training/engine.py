"""What `train` asks of an engine. The engines are in `glam.engines`; the caller of `train` chooses
one."""

from typing import Any, Protocol

from lightning import Callback
from lightning.fabric.plugins.io import CheckpointIO

from glam.config import RunConfig
from glam.machine.processes import Processes
from glam.model import Glam
from glam.model.backend import Backend
from glam.model.saved_tensors import SavedTensors
from glam.training.checkpoint import FolderCheckpointIO
from glam.training.module import TrainingModule
from glam.training.train_state import TrainState


class Engine(Protocol):
    """What differs between one device, processes of torch and XLA."""

    @property
    def processes(self) -> Processes:
        """Those that train the model together."""
        ...

    @property
    def backend(self) -> Backend:
        """What the engine changes in the model."""
        ...

    def module(self, model: Glam, config: RunConfig, train_state: TrainState) -> TrainingModule:
        """The training step of this engine."""
        ...

    def materialize(self, model: Glam, seed: int | None) -> None:
        """Allocates a model that is on the meta device; with a seed, draws its initial values."""
        ...

    def checkpoints(self, provenance: dict[str, Any]) -> FolderCheckpointIO:
        """How checkpoints are written and read. Their manifests hold `provenance`."""
        ...

    def callbacks(self) -> list[Callback]:
        """Run before all other callbacks."""
        ...

    def trainer_arguments(self, checkpoints: CheckpointIO) -> dict[str, Any]:
        """Of Lightning's Trainer: accelerator, strategy and plugins."""
        ...

    def load(self, module: TrainingModule, weights: SavedTensors) -> None:
        """Loads the weights of a finished run, by their names in a checkpoint."""
        ...

    def place(self, model: Glam) -> None:
        """Moves the model to the devices for evaluation; does nothing if it is there."""
        ...
