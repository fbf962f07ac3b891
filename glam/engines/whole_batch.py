# torch.distributed has half its types.
# pyright: basic
"""Training steps of several processes whose gradients are those of the whole batch."""

from collections import defaultdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from glam.config import RunConfig
from glam.engines.expert_parallel import local
from glam.engines.sharding_plan import ShardingPlan, state_like
from glam.model import Glam
from glam.training.module import TrainingModule, gradients
from glam.training.optimizers import trained, with_own_options
from glam.training.traced import TracedModule, by_definition, with_first_state
from glam.training.train_state import TrainState


class WholeBatch:
    """Completes the gradients of a model's weights, and measures and scales them."""

    def __init__(self, model: Glam, sharding_plan: ShardingPlan) -> None:
        self.model, self.plan = model, sharding_plan
        self._rows = sharding_plan.rows.get_group()
        named = list(model.named_parameters())
        self._of_experts = [p for name, p in named if sharding_plan.is_expert_parallel(name)]
        self._of_own_rows = [p for name, p in named if sharding_plan.is_summed(name)]

    def norm(self) -> Tensor:
        """Of all gradients together."""
        by_copies = defaultdict[int, list[Tensor]](list)
        for gradient in gradients(self.model.parameters()):
            by_copies[self.plan.copies(gradient)].append(local(gradient))
        squares = [
            torch.nn.utils.get_total_norm(parts).square() / copies
            for copies, parts in by_copies.items()
        ]
        total = torch.stack(squares).sum()
        dist.all_reduce(total)
        return total.sqrt()

    @torch.no_grad()
    def complete(self) -> None:
        """Average over the rows of all processes the gradients that FSDP does not average."""
        size = self._rows.size()
        for gradient in gradients(self._of_experts):
            local(gradient).div_(size)  # a sum already: rows of all processes came to it
        own = [local(gradient) for gradient in gradients(self._of_own_rows)]
        together = torch.cat([gradient.flatten() for gradient in own])
        dist.all_reduce(together, group=self._rows)
        parts = together.div_(size).split([gradient.numel() for gradient in own])
        for gradient, part in zip(own, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def clip(self, norm: Tensor, largest: float) -> None:
        """Scale the gradients so that their norm is at most `largest`."""
        scale = (largest / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients(self.model.parameters()):
            local(gradient).mul_(scale)


class WholeBatchModule(TrainingModule):
    """A TrainingModule whose gradients are the whole batch's."""

    def __init__(
        self, model: Glam, config: RunConfig, train_state: TrainState, whole_batch: WholeBatch
    ) -> None:
        super().__init__(model, config, train_state)
        self._whole_batch = whole_batch

    def configure_model(self) -> None:
        """Lightning asks for it; the engine has laid the model out before."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer, first_state, makes_state = by_definition(
            self.config.optimizer_as_built, self.model
        )
        for parameter in trained(self.model):
            state = {} if makes_state else first_state(parameter.shape)
            if state:
                optimizer.state[parameter] = {
                    key: state_like(parameter, value) for key, value in state.items()
                }
        return with_own_options(optimizer)

    def grad_norm(self) -> Tensor:
        self._whole_batch.complete()
        return self._whole_batch.norm()

    def clip(self, norm: Tensor) -> None:
        self._whole_batch.clip(norm, self._clip_norm)


class TracedWholeBatchModule(WholeBatchModule, TracedModule):
    """A TracedModule whose gradients are the whole batch's."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if isinstance(self.model, FSDPModule):
            self.model.reshard()  # an evaluation leaves weights gathered: this step gathers too

    def configure_optimizers(self, place: Any = None) -> torch.optim.Optimizer:
        return with_first_state(self.config.optimizer_as_built, self.model, state_like)

    def changed(self, optimizer: Any) -> dict[str, Tensor]:
        return {name: local(value) for name, value in super().changed(optimizer).items()}
