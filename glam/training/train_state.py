"""The state of a run beside weights and optimizer: counters, clock, energy, and the means of its
next log row. A checkpoint holds all of it, so a resumed run logs what an uninterrupted one would.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glam.config import ModelConfig, TrainingConfig
from glam.machine.energy_by_phase import EnergyByPhase
from glam.machine.processes import SINGLE, Processes
from glam.model.compiled import is_compiled
from glam.training.rollback import LossWatch, Rollback


class Clock:
    """Seconds of training alone: the clock stops while a run evaluates or saves."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def go(self) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        self._seconds = self.seconds
        self._since = None

    @contextmanager
    def paused(self) -> Generator[None]:
        """Stop the clock within the context, and restore it after."""
        was_running = self._since is not None
        self.stop()
        try:
            yield
        finally:
            if was_running:
                self.go()

    @property
    def seconds(self) -> float:
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self._seconds + running


class StepMetrics(NamedTuple):
    """What one training step adds to the running means."""

    token_losses: Tensor  # [B, S], nats
    sources: Tensor  # [B, S]: which source a token came from
    balance_loss: Tensor  # scalar
    load: Tensor  # [num_moe_layers, E]: share of the choices that each expert got
    dropped: Tensor  # [num_moe_layers]


class LayerLoad(NamedTuple):
    """The load of one MoE layer's experts since the last log row."""

    shares: list[float]  # of the choices, by expert
    dropped: float  # share of the choices that were dropped


class RowAverages(NamedTuple):
    """The means of one log row; NaN where there was nothing to average."""

    loss: float  # nats per token
    loss_by_source: list[float]
    balance_loss: float
    grad_norm: float


def sparse_layers(config: ModelConfig) -> list[int]:
    """Indices of the layers that have experts to choose from."""
    layers = range(config.num_layers)
    return [layer for layer in layers if config.is_sparse and config.is_moe_layer(layer)]


def values(vector: Tensor) -> list[float]:
    """The elements of a vector, read back from its device."""
    return [float(value) for value in vector.cpu()]


class RunningMeans:
    """Sums since the last log row, and of the experts' load since the last evaluation. They stay on
    the model's device, since reading them waits for it. Each process sums its own tokens; means are
    over all processes."""

    def __init__(
        self,
        num_sources: int,
        load_shape: tuple[int, int],
        device: str | torch.device,
        processes: Processes = SINGLE,
    ) -> None:
        self.processes = processes
        # Millions of tokens are summed; MPS has no float64, and a TPU none worth the name.
        narrow = torch.device(device).type == "mps" or is_compiled(device)
        dtype = torch.float32 if narrow else torch.float64

        def zeros(*shape: int) -> Tensor:
            # Made on the CPU: made by XLA, it would be a constant of the next graph.
            return torch.zeros(shape, dtype=dtype).to(device)

        self.sums = {
            "losses": zeros(num_sources),  # nats, by source
            "counts": zeros(num_sources),  # tokens, by source
            "balance_loss": zeros(),
            "grad_norm": zeros(),
            "steps": zeros(),
            "load": zeros(*load_shape),
            "dropped": zeros(load_shape[0]),
            "load_steps": zeros(),
        }
        self._ones = torch.ones(1, dtype=dtype).to(device)

    @torch.no_grad()
    def add(self, figures: StepMetrics, grad_norm: float | Tensor) -> None:
        sums, where = self.sums, figures.sources.reshape(-1).long()
        sums["losses"].index_add_(0, where, figures.token_losses.reshape(-1).to(self._ones.dtype))
        sums["counts"].index_add_(0, where, self._ones.expand(where.shape[0]))
        sums["balance_loss"] += figures.balance_loss
        sums["grad_norm"] += grad_norm
        sums["steps"] += 1
        sums["load"] += figures.load
        sums["dropped"] += figures.dropped
        sums["load_steps"] += 1

    def take_row(self) -> RowAverages:
        """The means since the last call. Resets their sums."""
        names = ("losses", "counts", "balance_loss", "grad_norm", "steps")
        losses, counts, balance, norm, steps = (self._of_all(name).cpu() for name in names)
        row = RowAverages(
            loss=(losses.sum() / counts.sum()).item(),
            loss_by_source=values(losses / counts),
            balance_loss=(balance / steps).item(),
            grad_norm=(norm / steps).item(),
        )
        self._clear(*names)
        return row

    def load(self, config: ModelConfig) -> dict[int, LayerLoad]:
        """Mean load of each layer with experts, by layer index."""
        names = ("load", "dropped", "load_steps")
        load, dropped, steps = (self._of_all(name).cpu() for name in names)
        shares, dropped = load / steps, dropped / steps
        return {
            layer: LayerLoad(values(shares[row]), dropped[row].item())
            for row, layer in enumerate(sparse_layers(config))
        }

    def _of_all(self, name: str) -> Tensor:
        if self.processes.parts == 1:
            return self.sums[name]
        total = self.processes.sum(self.sums[name])
        return total if name in ("losses", "counts") else total / self.processes.parts

    def state_dict(self) -> dict[str, Tensor]:
        return {name: self._of_all(name) for name in self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The first part of the rows resumes from the sums of all, the others from zero. Sums that
        are averaged over the parts, each process has."""
        for name, old in self.sums.items():
            mine = self.processes.part == 0 or name not in ("losses", "counts")
            value = state[name] if mine else torch.zeros_like(state[name])
            self.sums[name] = value.to(old.device, old.dtype)

    def clear_load(self) -> None:
        self._clear("load", "dropped", "load_steps")

    def _clear(self, *names: str) -> None:
        for name in names:
            old = self.sums[name]
            self.sums[name] = torch.zeros(old.shape, dtype=old.dtype).to(old.device)


class Past(NamedTuple):
    """What a run keeps when it goes back."""

    seconds: float  # of training
    rollbacks: tuple[Rollback, ...]  # this one too


class TrainState:
    """Counters, clock, energy and means of a run. `step` counts batches, those of skipped updates
    too: it is the position in the data and in the schedule."""

    def __init__(
        self,
        means: RunningMeans,
        training: TrainingConfig,
        energy_by_phase: EnergyByPhase,
        past: Past | None = None,
    ) -> None:
        """`past`: of the run that goes back to the checkpoint that is loaded next, or else to its
        beginning."""
        self.means, self.training, self.energy_by_phase = means, training, energy_by_phase
        self.step = self.tokens = 0
        self.skipped = self.skipped_in_a_row = 0
        self.watch = LossWatch(training, past.rollbacks if past else ())
        self.clock = Clock(past.seconds if past else 0.0)
        self.row_tokens, self.row_seconds = 0, self.clock.seconds  # at the last log row
        self._past = past
        self._stand_here()

    def start(self) -> None:
        """Training begins or resumes in this process."""
        self.energy_by_phase.set_phase("training")
        self.clock.go()

    def stop(self) -> None:
        self.energy_by_phase.set_phase(None)
        self.clock.stop()

    @contextmanager
    def evaluating(self) -> Generator[None]:
        """A context whose seconds and joules do not count as training."""
        with self.clock.paused(), self.energy_by_phase.on("evaluation"):
            yield

    @contextmanager
    def saving(self) -> Generator[None]:
        """A context whose seconds do not count as training."""
        with self.clock.paused(), self.energy_by_phase.seconds.on("checkpoints"):
            yield

    @property
    def diverged(self) -> bool:
        return self.why_diverged is not None

    @property
    def why_diverged(self) -> str | None:
        """One clause; None for a run that has not."""
        if self.skipped_in_a_row >= self.training.max_skipped:
            return f"gradients were NaN or Inf in {self.skipped_in_a_row} steps in a row"
        return self.watch.why_given_up

    @property
    def stops(self) -> bool:
        """Whether no further step follows from here: the run has diverged or goes back."""
        return self.diverged or self.watch.goes_back

    def go_back(self, step: int) -> Past:
        """What goes on from the checkpoint of step `step`."""
        rollback = self.watch.rollback(step, self.clock.seconds)
        return Past(self.clock.seconds, (*self.watch.rollbacks, rollback))

    def finish_step(self, tokens: int, *, skipped: bool) -> None:
        self.step += 1
        self.tokens += tokens
        self.skipped += skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0

    def take_speed(self) -> float:
        """Tokens per second since the last call, of training alone."""
        tokens, seconds = self.tokens - self.row_tokens, self.clock.seconds - self.row_seconds
        self.row_tokens, self.row_seconds = self.tokens, self.clock.seconds
        return tokens / seconds if seconds > 0 else float("nan")

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "tokens": self.tokens,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "train_seconds": self.clock.seconds,
            "row_tokens": self.row_tokens,
            "row_seconds": self.row_seconds,
            "joules": self.joules(),
            "averages": self.means.state_dict(),
            "watch": self.watch.state_dict(),
        }

    def joules(self) -> dict[str, float]:
        """Energy of all processes so far, by activity."""
        joules = self.energy_by_phase.joules
        total = self.means.processes.total(torch.tensor(list(joules.values())).double())
        return dict(zip(joules, values(total), strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.tokens = state["step"], state["tokens"]
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        self.row_tokens, self.row_seconds = state["row_tokens"], state["row_seconds"]
        if "watch" in state:
            self.watch.load_state_dict(state["watch"])
        else:  # of version 0.2: its losses are not judged any more
            self.watch.step = self.step
        self.means.load_state_dict(state["averages"])
        if self._past is None:
            self.clock = Clock(state["train_seconds"])
            if self.means.processes.is_main:
                self.energy_by_phase.add(state["joules"])
        else:  # the counters of this process have seen it all
            self.row_seconds += self.clock.seconds - state["train_seconds"]
            self._stand_here()

    def _stand_here(self) -> None:
        """A return to this step costs the seconds from now on."""
        if self._past is not None:
            self.watch.anchors[self.step] = self._past.seconds
