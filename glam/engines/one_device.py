"""Training on one device of this machine."""

from dataclasses import replace
from typing import Any

from lightning import Callback
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.io import CheckpointIO

from glam.config import RunConfig
from glam.machine.processes import LOOPBACK, SINGLE
from glam.machine.resources import Resources
from glam.model import Glam
from glam.model.backend import ONE_DEVICE, Backend
from glam.model.loss import compiled_softmax
from glam.model.saved_tensors import SavedTensors
from glam.model.vocabulary import Vocabulary
from glam.training.checkpoint import FolderCheckpointIO
from glam.training.module import TrainingModule

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}


class OneProcessEnvironment(ClusterEnvironment):
    """What Lightning is told of the cluster: there is none. It would take its own view from the
    variables of Slurm, LSF, MPI, Kubeflow or torchrun that are set around us."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return LOOPBACK

    @property
    def main_port(self) -> int:
        return 0

    @staticmethod
    def detect() -> bool:
        return True

    def world_size(self) -> int:
        return 1

    def set_world_size(self, size: int) -> None: ...

    def global_rank(self) -> int:
        return 0

    def set_global_rank(self, rank: int) -> None: ...

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0


class OneProcess:
    """What engines of a single process share: weights are initialised on the CPU."""

    processes = SINGLE

    def plugins(self, *others: CheckpointIO) -> dict[str, Any]:
        return {"plugins": [OneProcessEnvironment(), *others]}

    def checkpoints(self, provenance: dict[str, Any]) -> FolderCheckpointIO:
        return FolderCheckpointIO(provenance)

    def materialize(self, model: Glam, seed: int | None) -> None:
        model.to_empty(device="cpu")
        if seed is not None:
            model.initialize(seed)

    def load(self, module: TrainingModule, weights: SavedTensors) -> None:
        module.load_state_dict(weights)


def backend_of(config: RunConfig, resources: Resources) -> Backend:
    """What is compiled of the model, and what is in FP8."""
    backend = ONE_DEVICE
    if config.training.float8_experts:
        from glam.model.moe.experts_float8 import dispatcher

        backend = replace(backend, dispatcher=dispatcher)
    if resources.compiled == "off":
        return backend
    from glam.model.fused_layers import FusedLayers  # imports FlexAttention

    whole, again = resources.compiled == "layers", config.training.rematerialize
    layers = FusedLayers(whole=whole, rematerialize=again)
    return replace(backend, run_layers=layers, vocabulary=Vocabulary(compiled_softmax()))


class OneDevice(OneProcess):
    """See `glam.training.engine.Engine`."""

    module = TrainingModule

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        self._device = resources.device
        self.backend = backend_of(config, resources)

    def materialize(self, model: Glam, seed: int | None) -> None:
        """On a GPU at once: a model that fills the card may be larger than the host's memory. Its
        values are the CPU's, drawn matrix by matrix."""
        if self._device != "cuda":
            return super().materialize(model, seed)
        model.to_empty(device=self._device)
        if seed is not None:
            model.initialize(seed)
        return None

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
        one = {"accelerator": ACCELERATORS[self._device], "devices": 1}
        return {**one, **self.plugins(checkpoints)}

    def place(self, model: Glam) -> None:
        model.to(self._device)
