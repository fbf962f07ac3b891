"""The training step as one graph, for a compiler: no step reads a number back, so every step is
the same graph."""

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from glam.config import AdafactorConfig, AdamWConfig, OptimizerConfig
from glam.model.compiled import is_compiled
from glam.training.module import TrainingModule
from glam.training.optimizers import adamw, parameter_groups, trained, with_own_options
from glam.training.train_state import values


class TracedAdafactor(torch.optim.Optimizer):
    """`Adafactor` as it is defined, without its savings of memory passes, which a compiler makes
    here. The state has the same names and shapes; `step` is a tensor."""

    def __init__(self, parameters: list[nn.Parameter], config: AdafactorConfig) -> None:
        super().__init__(parameters, {"lr": config.rate})
        self.config = config

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                self._update(parameter, parameter.grad, self.state[parameter], group["lr"])

    def _update(
        self, parameter: Tensor, grad: Tensor, state: dict[str, Tensor], rate: Tensor
    ) -> None:
        config = self.config
        state["step"] += 1
        beta2 = (1 - state["step"] ** -config.beta2_decay).clamp(max=config.beta2)
        square = grad.square()
        if parameter.ndim < 2:
            state["square"].lerp_(square + config.eps_factor, 1 - beta2)
            update, matrix = grad * state["square"].rsqrt(), None
        else:
            rows, columns = state["rows"], state["columns"]
            rows.lerp_(square.mean(-1, keepdim=True) + config.eps_factor, 1 - beta2)
            columns.lerp_(square.mean(-2, keepdim=True) + config.eps_factor, 1 - beta2)
            # Two roots, not one of the product: that is below float32 where a row is all zeros.
            row = (rows / rows.mean(-2, keepdim=True)).rsqrt()
            update, matrix = grad * row * columns.rsqrt(), (-2, -1)
        clip = (_root_mean_square(update, matrix) / config.clip_threshold).clamp(min=1)
        scale = _root_mean_square(parameter, matrix).clamp(min=config.eps_scale)
        parameter.sub_(update * (rate * scale / clip))


def _root_mean_square(x: Tensor, dims: tuple[int, int] | None) -> Tensor:
    """Of all of `x`, or of each of its matrices."""
    square = x.square()
    return (square.mean() if dims is None else square.mean(dims, keepdim=True)).sqrt()


LOSSES_KEPT = 32  # steps whose losses wait on the device until they are judged

FirstState = Callable[[torch.Size], dict[str, Tensor]]
Place = Callable[[Tensor, torch.device], Tensor]


class TracedOptimizer(NamedTuple):
    """An optimizer whose step is a graph of tensor operations."""

    optimizer: torch.optim.Optimizer
    first_state: FirstState  # of a weight before its first step, whole and on the CPU
    makes_state: bool  # whether a step makes the state that it does not find, like its weight


@singledispatch
def by_definition(config: OptimizerConfig, model: nn.Module) -> TracedOptimizer:
    """The optimizer in the form of its definition: for processes of torch, whose weights are
    DTensors, and for XLA."""
    optimizer = config.build(parameter_groups(model))
    return TracedOptimizer(optimizer, config.first_state, makes_state=False)


@by_definition.register
def _(config: AdafactorConfig, model: nn.Module) -> TracedOptimizer:
    optimizer = TracedAdafactor(trained(model), config)
    return TracedOptimizer(optimizer, factored_moments, makes_state=False)


@by_definition.register
def _(config: AdamWConfig, model: nn.Module) -> TracedOptimizer:
    compiled = is_compiled(next(model.parameters()).device)
    optimizer = adamw(config, model, capturable=compiled, foreach=False)
    return TracedOptimizer(optimizer, two_moments, makes_state=True)


def factored_moments(shape: torch.Size) -> dict[str, Tensor]:
    """Of Adafactor: a row and a column of each matrix `[…, a, b]`."""
    if len(shape) < 2:
        return {"step": torch.zeros(()), "square": torch.zeros(shape)}
    return {
        "step": torch.zeros(()),
        "rows": torch.zeros(*shape[:-1], 1),
        "columns": torch.zeros(*shape[:-2], 1, shape[-1]),
    }


def two_moments(shape: torch.Size) -> dict[str, Tensor]:
    """Of AdamW."""
    moments = {name: torch.zeros(shape) for name in ("exp_avg", "exp_avg_sq")}
    return {"step": torch.zeros(()), **moments}


def traced_optimizer(
    config: OptimizerConfig, model: nn.Module, place: Place = Tensor.to
) -> torch.optim.Optimizer:
    """The optimizer with its state. `place` moves a tensor to a parameter's device."""
    return with_first_state(config, model, lambda weight, value: place(value, weight.device))


def with_first_state(
    config: OptimizerConfig, model: nn.Module, placed: Callable[[Tensor, Tensor], Tensor]
) -> torch.optim.Optimizer:
    """The optimizer with its state, made before the first step: so the first graph has it as an
    input, as every later one. `placed(weight, value)` is a value of a weight's state where that
    weight is."""
    optimizer, first_state, _ = by_definition(config, model)
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(config.rate)
    for parameter in trained(model):
        state = first_state(parameter.shape).items()
        optimizer.state[parameter] = {k: placed(parameter, value) for k, value in state}
    return with_own_options(optimizer)


class TracedModule(TrainingModule):
    """A `TrainingModule` that decides on the device: an update whose gradients hold NaN or Inf is
    undone there. Counters and losses reach the TrainState when a row or a checkpoint is due, and
    every `LOSSES_KEPT` steps (`sync_counters`)."""

    # [2], on the device: updates skipped, and the last of them in a row
    counts: Tensor | None = None
    # [LOSSES_KEPT], on the device: losses of the last steps, the newest last
    recent: Tensor | None = None

    def configure_optimizers(self, place: Place = Tensor.to) -> torch.optim.Optimizer:
        return traced_optimizer(self.config.optimizer_as_built, self.model, place)

    def on_train_start(self) -> None:
        train_state = self.train_state
        counts = torch.tensor(
            [train_state.skipped, train_state.skipped_in_a_row], dtype=torch.float32
        )
        self.counts = counts.to(self.device)
        self.recent = torch.zeros(LOSSES_KEPT).to(self.device)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        assert optimizer_closure is not None
        assert self.counts is not None
        assert self.recent is not None
        optimizer_closure()  # forward and backward
        figures, self._figures = self._figures, None
        assert figures is not None
        with torch.no_grad():
            self.recent = torch.cat([self.recent[1:], self.mean_loss().float().view(1)])
            norm = self.grad_norm()
            skipped, in_a_row = self.counts.unbind()
            diverged = in_a_row >= self.train_state.training.max_skipped
            stays = diverged | ~norm.isfinite()
            before = {name: value.clone() for name, value in self.changed(optimizer).items()}
            self._update(optimizer, norm)
            self.move_biases(figures)
            self.train_state.means.add(figures, norm)
            for name, value in self.changed(optimizer).items():
                value.copy_(torch.where(stays, before[name], value))
            failed = (stays & ~diverged).float()
            in_a_row = torch.where(stays, in_a_row + failed, torch.zeros_like(in_a_row))
            self.counts = torch.stack([skipped + failed, in_a_row])
        self.train_state.finish_step(self.config.training.tokens_per_step, skipped=False)

    def _update(self, optimizer: Any, norm: Tensor) -> None:
        if self._clip_norm < math.inf:
            self.clip(norm)
        rate = self.rate()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

    def rate(self) -> Tensor:
        """The learning rate of this step, on the device: an input of its graph."""
        rate = torch.tensor(self.learning_rate(self.train_state.step), dtype=torch.float32)
        return rate.to(self.device)

    def changed(self, optimizer: Any) -> dict[str, Tensor]:
        """Every tensor that a step writes to, by a name."""
        found = {f"sum/{name}": value for name, value in self.train_state.means.sums.items()}
        found |= {f"bias/{n}": bias.data for n, bias in enumerate(self.model.biases_of_choice)}
        for number, (parameter, state) in enumerate(optimizer.state.items()):
            found[f"weight/{number}"] = parameter.data
            found |= {f"state/{number}/{name}": value for name, value in state.items()}
        return found

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.train_state.step - self.train_state.watch.step >= LOSSES_KEPT:
            self.sync_counters()

    def sync_counters(self) -> None:
        if self.counts is None or self.recent is None:
            return
        train_state, watch = self.train_state, self.train_state.watch
        skipped, in_a_row = (int(value) for value in self.counts.cpu())
        train_state.skipped, train_state.skipped_in_a_row = skipped, in_a_row
        if waiting := train_state.step - watch.step:
            for loss in values(self.recent)[-waiting:]:
                watch.see(loss)
        self.stop_if_due()
