"""How far each operation is from float64, with the kernels that this process has.

Every operation computes its output and all its gradients once in the given type and once in float64
by torch's operators, which float64 always takes, on the same inputs and weights. The difference of
a tensor is its largest error over its largest entry; an operation's is the worst of its tensors.
`GLAM_KERNELS` chooses the kernels, and is read when a process begins: `__main__.py` starts one for
each set.
"""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from glam.config import AdafactorConfig, AdamWConfig, ModelConfig, OptimizerConfig
from glam.kernels.kernel_set import kernel_set
from glam.model.attention.attention import Attention
from glam.model.feed_forward import FeedForward, GatedFeedForward
from glam.model.init import initialize
from glam.model.loss import WHOLE, token_losses
from glam.model.moe.moe import MixtureOfExperts
from glam.model.norm import RMSNorm
from glam.training.optimizers import build_optimizer

Row = dict[str, object]
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Width, hidden units, experts, rows, length, vocabulary: the default model, and a larger one.
SIZES = {
    "default": ModelConfig(),
    "M 256 E 16": ModelConfig(d_model=256, d_ff=1024, num_experts=16, vocab_size=8192),
}
ROWS, LENGTH = 4, 128
UPDATES = 10


def measure() -> Iterator[Row]:
    for precision, dtype in TYPES.items():
        for size, config in SIZES.items():
            for name, compute in OPERATIONS.items():
                torch.manual_seed(0)
                yield {
                    "operation": name,
                    "size": size,
                    "precision": precision,
                    "kernels": kernel_set(precision),
                    "difference": compute(config, dtype),
                }
    for name, config in {
        "adamw": AdamWConfig(learning_rate=0.012),
        "adafactor": AdafactorConfig(),
    }.items():
        torch.manual_seed(0)
        yield {
            "operation": f"{name}, {UPDATES} updates",
            "size": "M 256 E 16",
            "precision": "float32",
            "kernels": kernel_set("float32"),
            "difference": _updates(config),
        }


def _difference(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Of the tensor that differs most."""
    pairs = zip(found, exact, strict=True)
    return max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in pairs)


def _of_module(
    make: Callable[[ModelConfig], nn.Module], config: ModelConfig, dtype: torch.dtype
) -> float:
    """Weights stay in float32, as in training."""
    module = make(config)
    initialize(module, 0)
    x = torch.randn(ROWS, LENGTH, config.d_model).to(dtype)
    upstream = torch.randn_like(x)
    found = _gradients(module, x, upstream)
    return _difference(found, _gradients(copy.deepcopy(module).double(), x.double(), upstream))


def _gradients(module: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """The output, the gradient of the input, and those of all weights."""
    x = x.clone().requires_grad_()
    made = module(x, None) if isinstance(module, Attention) else module(x)
    y = made if isinstance(made, Tensor) else made.y
    y.backward(upstream.to(y.dtype))
    assert x.grad is not None
    return [y.detach(), x.grad, *(w.grad for w in module.parameters() if w.grad is not None)]


def _loss(config: ModelConfig, dtype: torch.dtype) -> float:
    x = torch.randn(ROWS * LENGTH, config.d_model).to(dtype)
    w = torch.randn(config.vocab_size, config.d_model) * config.d_model**-0.5
    targets = torch.randint(0, config.vocab_size, (len(x),))

    def computed(x: Tensor, w: Tensor) -> list[Tensor]:
        x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
        losses = token_losses(x, w, targets, None, WHOLE)
        losses.mean.backward()
        assert x.grad is not None
        assert w.grad is not None
        return [losses.each.detach(), x.grad, w.grad]

    return _difference(computed(x, w), computed(x.double(), w.double()))


def _updates(config: OptimizerConfig) -> float:
    """Weights after some updates with the same gradients, by how far they have moved."""
    module = _experts(SIZES["M 256 E 16"])
    initialize(module, 0)
    before = [w.detach().double() for w in module.parameters()]
    exact = copy.deepcopy(module).double()
    optimizers = [build_optimizer(config, module), build_optimizer(config, exact)]
    for _ in range(UPDATES):
        for w, wide in zip(module.parameters(), exact.parameters(), strict=True):
            w.grad = torch.randn_like(w)
            wide.grad = w.grad.double()
        for optimizer in optimizers:
            optimizer.step()
    moved = [[w - b for w, b in zip(m.parameters(), before, strict=True)] for m in (module, exact)]
    return _difference([w.detach() for w in moved[0]], [w.detach() for w in moved[1]])


def _experts(config: ModelConfig) -> nn.Module:
    return MixtureOfExperts(config)


MODULES: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "attention": Attention,
    "experts": _experts,
    "feed-forward (GEGLU)": lambda config: GatedFeedForward(config.d_model, config.d_ff),
    "feed-forward of the dense twin": lambda config: FeedForward(config.d_model, 2 * config.d_ff),
    "norm": lambda config: RMSNorm(config.d_model),
}
OPERATIONS: dict[str, Callable[[ModelConfig, torch.dtype], float]] = {
    **{
        name: lambda config, dtype, make=make: _of_module(make, config, dtype)
        for name, make in MODULES.items()
    },
    "loss": _loss,
}
