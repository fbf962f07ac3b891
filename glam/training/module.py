"""One training step, as a LightningModule."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from glam.config import RunConfig
from glam.data import TrainStream
from glam.machine.processes import SINGLE, Processes
from glam.model import Glam
from glam.model.saved_tensors import SavedTensors, check_shape
from glam.training.optimizers import UpdatesOneWeight, build_optimizer, trained
from glam.training.train_state import StepMetrics, TrainState

SEED_STRIDE = 0x9E3779B1  # 2**32 over the golden ratio, odd: no two seeds begin alike


class StepBatch(NamedTuple):
    """A batch as tensors, each `[B, S]`."""

    tokens: Tensor
    targets: Tensor
    segments: Tensor
    sources: Tensor  # indices of PreparedData.sources


class Batches:
    """This process's rows of the batches from the TrainState's step to the end. Lightning iterates
    over it once the checkpoint is loaded: batch i is a function of i alone, so there is no loader
    state."""

    def __init__(
        self,
        stream: TrainStream,
        train_state: TrainState,
        num_steps: int,
        processes: Processes = SINGLE,
    ) -> None:
        self.stream, self.train_state, self.num_steps = stream, train_state, num_steps
        self.rows = processes.rows(stream.batch_size)

    def __iter__(self) -> Iterator[StepBatch]:
        shift = self.train_state.watch.shift
        for step in range(self.train_state.step, self.num_steps):
            batch = self.stream.batch(step + shift, self.rows)
            yield StepBatch(*(torch.from_numpy(part) for part in batch))  # pyright: ignore[reportUnknownMemberType]


def seed_device(device: torch.device, seed: int) -> None:
    """torch.manual_seed for one device. torch's own takes a millisecond: it keeps a stack trace for
    every device that is absent."""
    match device.type:
        case "cuda":
            torch.cuda.manual_seed(seed)
        case "mps":
            torch.mps.manual_seed(seed)
        case "xla":
            pass  # XlaStrategy does: it knows torch_xla
        case "tpu":
            torch.get_device_module(device).manual_seed(seed)
        case _:
            torch.default_generator.manual_seed(seed)


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients that are there."""
    return [p.grad for p in parameters if p.grad is not None]


class UpdatesInBackward:
    """Updates each weight as soon as its gradient is complete, and frees the gradient. After the
    first gradient with NaN or Inf, the step updates no further weights."""

    def __init__(self, model: Glam, optimizer: UpdatesOneWeight) -> None:
        self._optimizer, self._learning_rate, self._square_norm = optimizer, 0.0, 0.0
        for parameter in trained(model):
            parameter.register_post_accumulate_grad_hook(self._update)  # pyright: ignore[reportUnknownMemberType]

    def run(self, closure: Callable[[], Any], learning_rate: float) -> float:
        """Run a forward and backward pass. Returns the norm of all its gradients."""
        self._learning_rate, self._square_norm = learning_rate, 0.0
        closure()
        return math.sqrt(self._square_norm) if self._square_norm < math.inf else math.inf

    def _update(self, parameter: Tensor) -> None:
        grad = parameter.grad
        assert grad is not None
        norm = torch.nn.utils.get_total_norm([grad]).item()
        self._square_norm += norm**2 if math.isfinite(norm) else math.inf
        if self._square_norm < math.inf:
            self._optimizer.update(parameter, grad, self._learning_rate)
        parameter.grad = None


def parts_of(batch: StepBatch, number: int) -> list[StepBatch]:
    """Equally many rows each."""
    return [StepBatch(*rows) for rows in zip(*(x.chunk(number) for x in batch), strict=True)]


def joined(parts: list[StepMetrics]) -> StepMetrics:
    """The figures of a step from those of its parts."""
    losses, sources, balance, load, dropped = zip(*parts, strict=True)
    means = (torch.stack(each).mean(0) for each in (balance, load, dropped))
    return StepMetrics(torch.cat(losses), torch.cat(sources), *means)


class TrainingModule(LightningModule):
    """A Glam with its loss, its optimizer and its TrainState. An update whose gradients hold NaN or
    Inf is skipped: parameters and optimizer state stay as they are, and the step counts."""

    def __init__(self, model: Glam, config: RunConfig, train_state: TrainState) -> None:
        super().__init__()
        self.model, self.config, self.train_state = model, config, train_state
        self._figures: StepMetrics | None = None
        self._loss: Tensor | None = None
        self._updates: UpdatesInBackward | None = None
        self._clip_norm = config.optimizer.max_grad_norm
        self._peak_rate = config.optimizer_as_built.rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = build_optimizer(self.config.optimizer_as_built, self.model)
        if self.config.training.update_in_backward:
            assert isinstance(optimizer, UpdatesOneWeight)
            self._updates = UpdatesInBackward(self.model, optimizer)
        return optimizer

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        if isinstance(state_dict, SavedTensors):
            return self._fill(state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    @torch.no_grad()
    def _fill(self, saved: SavedTensors) -> None:
        """Fill the weights from a checkpoint: each is read and in its place before the next."""
        for name, weight in self.state_dict().items():
            check_shape(saved, name, weight)
            weight.copy_(saved[name])

    def learning_rate(self, step: int) -> float:
        """Learning rate of the update in step `step` (from 0)."""
        factor = self.config.schedule.factor(step, self.config.training.num_steps)
        return self._peak_rate * factor

    def transfer_batch_to_device(
        self, batch: StepBatch, device: torch.device, dataloader_idx: int
    ) -> StepBatch:
        if device.type == "cpu":  # it is there; Lightning would traverse it at every step
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_train_batch_start(self, batch: StepBatch, batch_idx: int) -> None:
        # Draws depend on seed and step alone, so a checkpoint needs no generator state, and
        # neither an evaluation nor a resume changes what is drawn after it.
        seed_device(self.device, self.seed_of_step)

    @property
    def seed_of_step(self) -> int:
        """Of 32 bits, since torch's generator on a CPU takes no more. Seeds lie far apart, by a
        golden section of all numbers each, so that runs do not meet each other's steps."""
        return (self.config.seed * SEED_STRIDE + self.train_state.step) % 2**32

    def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
        *earlier, last = parts_of(batch, self.config.training.accumulate)
        if not earlier:
            total, self._figures, self._loss = self._forward(last)
            return total
        self.model.zero_grad()
        found = [self._forward(part, backward=True) for part in earlier] + [self._forward(last)]
        self._figures = joined([figures for _, figures, _ in found])
        self._loss = torch.stack([loss for _, _, loss in found]).mean()
        # The value is the whole step's; the gradient, which Lightning makes, the last part's.
        return sum((total.detach() for total, _, _ in found[:-1]), found[-1][0]) / len(found)

    def _forward(
        self, batch: StepBatch, *, backward: bool = False
    ) -> tuple[Tensor, StepMetrics, Tensor]:
        """What the step minimises, its figures, and the cross-entropy alone."""
        output = self.model.loss(batch.tokens, batch.targets, batch.segments)
        figures = StepMetrics(
            token_losses=output.token_losses,
            sources=batch.sources,
            balance_loss=output.balance_loss.detach(),
            load=output.load.detach(),
            dropped=output.dropped.detach(),
        )
        total = output.loss + output.balance_loss
        if backward:
            (total / self.config.training.accumulate).backward()  # pyright: ignore[reportUnknownMemberType]
        return total, figures, output.loss.detach()

    def optimizer_zero_grad(
        self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Called between the forward and the backward pass of a step's last part."""
        if self.config.training.accumulate == 1:
            optimizer.zero_grad()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        assert optimizer_closure is not None
        if self._updates is not None:
            grad_norm = self._updates.run(
                optimizer_closure, self.learning_rate(self.train_state.step)
            )
            self._account(grad_norm, skipped=not math.isfinite(grad_norm))
            return
        optimizer_closure()  # forward and backward
        norm = self.grad_norm()
        grad_norm = norm.item()  # what a step waits for
        skipped = not math.isfinite(grad_norm)
        if not skipped:
            if grad_norm > self._clip_norm:
                self.clip(norm)
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(self.train_state.step)
            optimizer.step()
        self._account(grad_norm, skipped=skipped)

    def grad_norm(self) -> Tensor:
        """Norm of all gradients together. Called when they are complete."""
        return torch.nn.utils.get_total_norm(gradients(self.model.parameters()))

    def clip(self, norm: Tensor) -> None:
        torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self._clip_norm, norm)

    def _account(self, grad_norm: float, *, skipped: bool) -> None:
        assert self._figures is not None
        if not skipped:  # a NaN would spoil the means of its row
            self.train_state.means.add(self._figures, grad_norm)
            self.move_biases(self._figures)
        self.train_state.finish_step(self.config.training.tokens_per_step, skipped=skipped)
        self.train_state.watch.see(self.mean_loss().item())
        self._figures = self._loss = None
        self.stop_if_due()

    def move_biases(self, figures: StepMetrics) -> None:
        """By the load of the whole batch: of all its parts and all processes, which stay alike."""
        if self.config.model.moves_bias:
            processes = self.train_state.means.processes
            self.model.move_biases(processes.sum(figures.load) / processes.parts)

    def mean_loss(self) -> Tensor:
        """Loss of the whole batch: every process has equally many rows."""
        assert self._loss is not None
        processes = self.train_state.means.processes
        return processes.sum(self._loss) / processes.parts

    def stop_if_due(self) -> None:
        """End the loop after this step where the run has diverged or goes back."""
        if self.train_state.stops:
            self.trainer.should_stop = True

    def sync_counters(self) -> None:
        """Update the TrainState's counters from the device; here they are always up to date."""

    @property
    def status(self) -> str:
        """Of a run that stops here: "done", "diverged", or "training" where it was cut off."""
        if self.train_state.diverged:
            return "diverged"
        return "done" if self.train_state.step >= self.config.training.num_steps else "training"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.sync_counters()
        checkpoint["training"] = {**self.train_state.state_dict(), "status": self.status}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.train_state.load_state_dict(checkpoint["training"])
