"""The paper's Adafactor, in place and per expert; and AdamW."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from glam.config import AdafactorConfig, AdamWConfig, OptimizerConfig

SQUARES_AT_ONCE = 2**24  # 64 MB of float32


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    match config:
        case AdafactorConfig():
            return Adafactor(list(model.parameters()), config)
        case AdamWConfig():
            return _adamw(config, model)
        case _:
            raise AssertionError(f"no optimizer for {type(config).__name__}")


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay is for matrices: scales of norms, biases and the position bias have none."""
    return parameter.ndim >= 2 and not name.rsplit(".", 1)[-1].startswith("bias")


def _adamw(config: AdamWConfig, model: nn.Module) -> torch.optim.Optimizer:
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if decays(name, p)]},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


class Adafactor(torch.optim.Optimizer):
    """Shazeer & Stern 2018 as GLaM trained with it (section 5.1): no first moment, second moment
    factored over the last two dims, updates clipped and scaled by the parameter's RMS. A stacked
    weight `[E, a, b]` is E matrices: each is factored, clipped and scaled by itself.

    `step` overwrites the gradients: the update is built in their memory, and nothing of a large
    parameter's size is allocated. (torch.optim.Adafactor clamps small gradients, clips stacked
    experts together and cannot switch its relative step off.)
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
                    self._update(parameter, parameter.grad, group["lr"])
        return loss

    def _update(self, parameter: Tensor, grad: Tensor, learning_rate: float) -> None:
        state = self.state[parameter]
        state["step"] = state.get("step", 0) + 1
        beta2 = min(self.config.beta2, 1 - state["step"] ** -self.config.beta2_decay)
        if parameter.ndim >= 2:
            self._normalize_matrix(grad, state, beta2)
        else:
            self._normalize_vector(grad, state, beta2)
        whole = (-2, -1) if parameter.ndim >= 2 else (-1,)
        scale = root_mean_square(parameter, whole).clamp_(min=self.config.eps_scale)
        clip = (root_mean_square(grad, whole) / self.config.clip_threshold).clamp_(min=1)
        parameter.addcmul_(grad, scale.div_(clip), value=-learning_rate)

    def _normalize_matrix(self, grad: Tensor, state: dict[str, Any], beta2: float) -> None:
        """Divide `[…, a, b]` by the root of the second moment, rows times columns over the mean."""
        rows = root_mean_square(grad, (-1,)).square_()
        for name, mean in (("rows", rows), ("columns", mean_square_of_columns(grad))):
            if name not in state:
                state[name] = torch.zeros_like(mean)
            state[name].lerp_(mean.add_(self.config.eps_factor), 1 - beta2)
        # Two roots, not one of the product: that is below float32 where a row is all zeros.
        rows = state["rows"]
        grad.mul_((rows / rows.mean(dim=-2, keepdim=True)).rsqrt_())
        grad.mul_(state["columns"].rsqrt())

    def _normalize_vector(self, grad: Tensor, state: dict[str, Any], beta2: float) -> None:
        if "square" not in state:
            state["square"] = torch.zeros_like(grad)
        state["square"].lerp_(grad.square().add_(self.config.eps_factor), 1 - beta2)
        grad.mul_(state["square"].rsqrt())


def mean_square_of_columns(x: Tensor) -> Tensor:
    """`[…, 1, b]` of `[…, a, b]`, some rows at a time so that their squares stay few. (A norm over
    this dim is ten times slower on a CPU, which then walks it one element at a time.)"""
    num_rows = x.shape[-2]
    at_once = max(1, SQUARES_AT_ONCE * num_rows // x.numel())
    total = torch.zeros_like(x[..., :1, :])
    for first in range(0, num_rows, at_once):
        total += x[..., first : first + at_once, :].square().sum(-2, keepdim=True)
    return total.div_(num_rows)


def root_mean_square(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Over `dims`, which stay as ones."""
    linalg: Any = torch.linalg  # which has no types
    norm: Tensor = linalg.vector_norm(x, dim=dims, keepdim=True)
    return norm.div_(math.sqrt(math.prod(x.shape[dim] for dim in dims)))
