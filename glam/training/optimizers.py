"""The torch optimizers of `glam.config.optimizers` on one device: AdamW, the paper's Adafactor (in
place and per expert), and whatever a class of one's own builds."""

from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glam import kernels
from glam.config import AdafactorConfig, AdamWConfig, OptimizerConfig
from glam.config.layout import kind

LARGEST = 1e30  # of a row's factor; what has a gradient is far below
IN_CACHE = 2**18  # numbers of a gradient: it and its squares stay in the cache (measured)
ON_GPU = 2**27  # numbers of a gradient on a GPU, where few large kernels count: 0.5 GB of squares


@singledispatch
def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of `model` for one device."""
    return with_own_options(config.build(parameter_groups(model)))


@build_optimizer.register
def _(config: AdafactorConfig, model: nn.Module) -> torch.optim.Optimizer:
    return with_own_options(Adafactor(trained(model), config))


@build_optimizer.register
def _(config: AdamWConfig, model: nn.Module) -> torch.optim.Optimizer:
    return with_own_options(adamw(config, model, fused=True))


@runtime_checkable
class UpdatesOneWeight(Protocol):
    """An optimizer that can update a weight without the gradients of the others
    (`OptimizerConfig.updates_one_weight`)."""

    def update(self, parameter: Tensor, grad: Tensor, learning_rate: float) -> None: ...


def with_own_options(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """What a checkpoint brings is state: its options are those of the engine that wrote it."""

    def own(optimizer: torch.optim.Optimizer, loaded: dict[str, Any]) -> dict[str, Any]:
        both = zip(optimizer.param_groups, loaded["param_groups"], strict=True)
        groups = [{**ours, "params": theirs["params"]} for ours, theirs in both]
        return {**loaded, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(own)
    return optimizer


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that have gradients."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The parameters that weight decay applies to (`glam.config.layout.KINDS`), and the others."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in named if kind(name).decays]},
        {"params": [p for name, p in named if not kind(name).decays], "weight_decay": 0.0},
    ]


def adamw(config: AdamWConfig, model: nn.Module, **form: Any) -> torch.optim.Optimizer:
    """`form` is how torch computes it: fused, foreach, capturable."""
    return torch.optim.AdamW(
        parameter_groups(model),
        lr=config.rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        **form,
    )


class Adafactor(torch.optim.Optimizer):
    """Shazeer & Stern 2018 as GLaM trained with it (section 5.1): no first moment, second moment
    factored over the last two dims, updates clipped and scaled by the parameter's RMS. A stacked
    weight `[E, a, b]` is E matrices: each is factored, clipped and scaled by itself.

    The update is built piece by piece in a buffer that the cache holds: nothing of a large
    parameter's size is allocated. (torch.optim.Adafactor clamps small gradients, clips stacked
    experts together and cannot switch its relative step off.)
    """

    def __init__(self, parameters: list[nn.Parameter], config: AdafactorConfig) -> None:
        super().__init__(parameters, {"lr": config.rate})
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
        """One weight's step; the others' do not depend on it."""
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
        if all(_in_one_piece(x) for x in (parameter, grad, state["rows"], state["columns"])):
            self._update_in_one_pass(Matrices(p, g, rows, columns), beta2, rate)
            return
        for experts, parts in pieces(g.shape, IN_CACHE if g.is_cpu else ON_GPU):
            here = Matrices(p[experts], g[experts], rows[experts], columns[experts])
            self._update_piece(here, parts, beta2, rate)

    def _update_in_one_pass(self, here: "Matrices", beta2: float, rate: float) -> None:
        """What `_update_piece` does, by a kernel of our own."""
        if kernels.call("adafactor", *here, *here.grad.shape, *self._numbers(beta2, rate)):
            raise MemoryError("no memory for a few rows of a matrix")

    def _numbers(self, beta2: float, rate: float) -> tuple[float, ...]:
        """As kernels take them."""
        config = self.config
        eps = config.eps_factor, config.eps_scale
        return beta2, float(rate), *eps, config.clip_threshold  # the rate may be a tensor

    def _update_piece(
        self, here: "Matrices", parts: list[slice], beta2: float, rate: float
    ) -> None:
        """Of a few matrices, read in `parts` of their rows where one is too large for the cache."""
        E, a, b = here.grad.shape
        buffer = here.grad.new_empty(E, size(parts[0]), b)
        new_rows, new_columns = torch.empty_like(here.rows), torch.zeros_like(here.columns)
        for part in parts:
            square = squared(here.grad[:, part], buffer)
            torch.mean(square, -1, keepdim=True, out=new_rows[:, part])
            new_columns += square.sum(-2, keepdim=True)
        eps = self.config.eps_factor
        here.rows.lerp_(new_rows.add_(eps), 1 - beta2)
        here.columns.lerp_(new_columns.div_(a).add_(eps), 1 - beta2)
        # The update's square is grad^2 * row * column. Two factors, not their product, and the one
        # bounded: both are beyond float32 where a row is all zeros.
        row = here.rows.mean(-2, keepdim=True).div(here.rows).clamp_(max=LARGEST)
        column = here.columns.reciprocal()
        along = torch.empty_like(row)
        for part in parts:
            square = squared(here.grad[:, part], buffer) if len(parts) > 1 else buffer
            torch.bmm(square, column.mT, out=along[:, part])
        update_square = torch.bmm(row.mT, along)
        row.sqrt_().mul_(self._step_size(square_norm(here.parameter), update_square, a * b, rate))
        column.sqrt_()
        for part in parts:
            grad = here.grad[:, part]
            update = torch.mul(grad, column, out=buffer[:, : grad.shape[1]])
            here.parameter[:, part].addcmul_(update, row[:, part])

    def _update_vector(
        self, parameter: Tensor, grad: Tensor, state: dict[str, Any], beta2: float, rate: float
    ) -> None:
        if "square" not in state:
            state["square"] = torch.zeros_like(grad)
        here = parameter, grad, state["square"]
        if all(_in_one_piece(x) for x in here):
            numbers = self._numbers(beta2, rate)
            kernels.call("adafactor_vector", *here, grad.numel(), *numbers)
            return
        square = grad.square()
        state["square"].lerp_(square + self.config.eps_factor, 1 - beta2)
        squares = parameter.square().sum(), (square / state["square"]).sum()
        size = self._step_size(*squares, parameter.numel(), rate)
        parameter.addcmul_(grad * state["square"].rsqrt(), size)

    def _step_size(self, parameter: Tensor, update: Tensor, numbers: int, rate: float) -> Tensor:
        """What an update is multiplied by, from its and the parameter's sums of squares, which it
        overwrites."""
        scale = parameter.sqrt_().clamp_(min=self.config.eps_scale * numbers**0.5)
        clip = update.sqrt_().clamp_(min=self.config.clip_threshold * numbers**0.5)
        return scale.div_(clip).mul_(-rate * self.config.clip_threshold)


def _in_one_piece(x: Tensor) -> bool:
    return kernels.supported(x) and x.dtype == torch.float32 and x.is_contiguous()


class Matrices(NamedTuple):
    """Of some experts."""

    parameter: Float[Tensor, "E a b"]
    grad: Float[Tensor, "E a b"]
    rows: Float[Tensor, "E a 1"]  # second moments
    columns: Float[Tensor, "E 1 b"]


def square_norm(x: Float[Tensor, "E a b"]) -> Float[Tensor, "E 1 1"]:
    """A product of each matrix with itself, which is faster than a norm over two dims."""
    E, a, b = x.shape
    if E == 1:
        return torch.dot(x.reshape(-1), x.reshape(-1)).view(1, 1, 1)
    flat = x.reshape(E, 1, a * b)
    return torch.bmm(flat, flat.mT)


def squared(x: Float[Tensor, "E a b"], buffer: Float[Tensor, "E A b"]) -> Float[Tensor, "E a b"]:
    """The squares of `x`, written into the first rows of `buffer`."""
    return torch.mul(x, x, out=buffer[:, : x.shape[1]])


def stacked(x: Tensor) -> Tensor:
    """`[…, a, b]` as `[E, a, b]`."""
    return x.flatten(0, -3) if x.ndim > 2 else x[None]


def size(part: slice) -> int:
    """The length of a slice."""
    return part.stop - part.start


def pieces(shape: torch.Size, at_once: int) -> Iterator[tuple[slice, list[slice]]]:
    """Cuts `[E, a, b]` into as many whole matrices as have `at_once` numbers; where one has more,
    into single ones, with the parts of their rows that have as many."""
    E, a, b = shape
    experts = max(1, at_once // (a * b))
    height = a if a * b <= at_once else max(1, at_once // b)
    parts = [slice(first, min(first + height, a)) for first in range(0, a, height)]
    return ((slice(e, min(e + experts, E)), parts) for e in range(0, E, experts))
