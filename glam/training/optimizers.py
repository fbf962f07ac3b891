"""The paper's Adafactor, in place and per expert; and AdamW."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glam.config import AdafactorConfig, AdamWConfig, OptimizerConfig

IN_CACHE = 2**18  # numbers of a gradient: it and its squares stay in the cache (measured)


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    match config:
        case AdafactorConfig():
            return with_own_options(Adafactor(list(model.parameters()), config))
        case AdamWConfig():
            return with_own_options(adamw(config, model, fused=True))
        case _:
            raise AssertionError(f"no optimizer for {type(config).__name__}")


def with_own_options(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """What a checkpoint brings is state: its options are those of the engine that wrote it."""

    def own(optimizer: torch.optim.Optimizer, loaded: dict[str, Any]) -> dict[str, Any]:
        both = zip(optimizer.param_groups, loaded["param_groups"], strict=True)
        groups = [{**ours, "params": theirs["params"]} for ours, theirs in both]
        return {**loaded, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(own)
    return optimizer


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay is for matrices: scales of norms, biases and the position bias have none."""
    return parameter.ndim >= 2 and not name.rsplit(".", 1)[-1].startswith("bias")


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Those that decay, and those that do not."""
    named = list(model.named_parameters())
    return [
        {"params": [p for name, p in named if decays(name, p)]},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]


def adamw(config: AdamWConfig, model: nn.Module, **form: Any) -> torch.optim.Optimizer:
    """`form` is how torch computes it: fused, foreach, capturable."""
    return torch.optim.AdamW(
        parameter_groups(model),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        **form,
    )


class Adafactor(torch.optim.Optimizer):
    """Shazeer & Stern 2018 as GLaM trained with it (section 5.1): no first moment, second moment
    factored over the last two dims, updates clipped and scaled by the parameter's RMS. A stacked
    weight `[E, a, b]` is E matrices: each is factored, clipped and scaled by itself.

    `step` overwrites the gradients: the update is built in their memory, piece by piece, and
    nothing of a large parameter's size is allocated. (torch.optim.Adafactor clamps small
    gradients, clips stacked experts together and cannot switch its relative step off.)
    """

    def __init__(self, parameters: list[nn.Parameter], config: AdafactorConfig) -> None:
        super().__init__(parameters, {"lr": config.learning_rate})
        self.config = config

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, group["lr"])
        return loss

    @torch.no_grad()
    def update(self, parameter: Tensor, grad: Tensor, learning_rate: float) -> None:
        """One weight's step, which overwrites `grad`; the others' do not depend on it."""
        state = self.state[parameter]
        state["step"] = int(state.get("step", 0)) + 1  # a tensor where an XLA run left it
        beta2 = min(self.config.beta2, 1 - state["step"] ** -self.config.beta2_decay)
        if parameter.ndim >= 2:
            self._update_matrices(parameter, grad, state, beta2, learning_rate)
        else:
            self._update_vector(parameter, grad, state, beta2, learning_rate)

    def _update_matrices(
        self, parameter: Tensor, grad: Tensor, state: dict[str, Any], beta2: float, rate: float
    ) -> None:
        """The update of `[E, a, b]` is grad * row [E, a, 1] * column [E, 1, b], times a scale: its
        norm follows from the squares alone, and it is never written out before it is applied."""
        p, g = stacked(parameter), stacked(grad)
        if "rows" not in state:
            state["rows"] = g.new_zeros(*grad.shape[:-1], 1)
            state["columns"] = g.new_zeros(*grad.shape[:-2], 1, grad.shape[-1])
        rows, columns = stacked(state["rows"]), stacked(state["columns"])
        for experts, parts in pieces(g.shape):
            here = Matrices(p[experts], g[experts], rows[experts], columns[experts])
            self._update_piece(here, parts, beta2, rate)

    def _update_piece(
        self, here: "Matrices", parts: list[slice], beta2: float, rate: float
    ) -> None:
        """Of a few matrices, read in `parts` of their rows where one is too large for the cache."""
        E, a, b = here.grad.shape
        squares = here.grad.new_empty(E, size(parts[0]), b)
        new_rows, new_columns = torch.empty_like(here.rows), torch.zeros_like(here.columns)
        for part in parts:
            square = torch.mul(here.grad[:, part], here.grad[:, part], out=squares[:, : size(part)])
            torch.mean(square, -1, keepdim=True, out=new_rows[:, part])
            new_columns += square.sum(-2, keepdim=True)
        eps = self.config.eps_factor
        here.rows.lerp_(new_rows.add_(eps), 1 - beta2)
        here.columns.lerp_(new_columns.div_(a).add_(eps), 1 - beta2)
        # Two roots, not one of the product: that is below float32 where a row is all zeros.
        row = (here.rows / here.rows.mean(-2, keepdim=True)).rsqrt_()
        column = here.columns.rsqrt()
        total, norm = torch.zeros_like(row[:, :1]), torch.zeros_like(row[:, :1])
        for part in parts:
            if len(parts) > 1:
                torch.mul(here.grad[:, part], here.grad[:, part], out=squares[:, : size(part)])
            along = torch.bmm(squares[:, : size(part)], column.square().transpose(1, 2))
            total += (along * row[:, part].square()).sum(-2, keepdim=True)
            norm += square_norm(here.parameter[:, part])
        row *= self._step_size(norm / (a * b), total / (a * b), rate)
        for part in parts:
            update = here.grad[:, part].mul_(column)
            here.parameter[:, part].addcmul_(update, row[:, part])

    def _update_vector(
        self, parameter: Tensor, grad: Tensor, state: dict[str, Any], beta2: float, rate: float
    ) -> None:
        if "square" not in state:
            state["square"] = torch.zeros_like(grad)
        state["square"].lerp_(grad.square().add_(self.config.eps_factor), 1 - beta2)
        grad.mul_(state["square"].rsqrt())
        size = self._step_size(parameter.square().mean(), grad.square().mean(), rate)
        parameter.addcmul_(grad, size)

    def _step_size(self, parameter: Tensor, update: Tensor, rate: float) -> Tensor:
        """What an update is multiplied by, from its and the parameter's mean squares."""
        scale = parameter.sqrt().clamp_(min=self.config.eps_scale)
        clip = (update.sqrt() / self.config.clip_threshold).clamp_(min=1)
        return scale.div_(clip).mul_(-rate)


class Matrices(NamedTuple):
    """Of some experts."""

    parameter: Float[Tensor, "E a b"]
    grad: Float[Tensor, "E a b"]
    rows: Float[Tensor, "E a 1"]  # second moments
    columns: Float[Tensor, "E 1 b"]


def square_norm(x: Float[Tensor, "E a b"]) -> Float[Tensor, "E 1 1"]:
    linalg: Any = torch.linalg  # which has no types
    norm: Tensor = linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return norm.square_()


def stacked(x: Tensor) -> Tensor:
    """`[…, a, b]` as `[E, a, b]`."""
    return x.flatten(0, -3) if x.ndim > 2 else x[None]


def size(part: slice) -> int:
    return part.stop - part.start


def pieces(shape: torch.Size) -> Iterator[tuple[slice, list[slice]]]:
    """Cuts `[E, a, b]` into as many whole matrices as the cache holds; where it holds less than
    one, into single ones, with the parts of their rows that it holds."""
    E, a, b = shape
    experts = max(1, IN_CACHE // (a * b))
    at_once = a if a * b <= IN_CACHE else max(1, IN_CACHE // b)
    parts = [slice(first, min(first + at_once, a)) for first in range(0, a, at_once)]
    return ((slice(e, min(e + experts, E)), parts) for e in range(0, E, experts))
