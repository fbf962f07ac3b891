"""Which part of a step leaves the line: forward and backward of each kind of layer, of the loss and
the update, beside its own FLOPs at the rate of the largest product, by width and by length."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from experiments.benchmarks.timing import Work, interleaved
from experiments.growth.sizes import TYPES, sized
from experiments.growth.theory import BACKWARD, Machine, Step
from glam.config import AdamWConfig
from glam.machine.resources import Precision
from glam.model import Glam
from glam.model.loss import WHOLE, token_losses
from glam.training.optimizers import build_optimizer

Row = dict[str, object]
SIZES = (*(("width", size) for size in (64, 128, 1024)), ("length", 256), ("length", 4096))


def measure(precision: Precision, rounds: int = 5) -> Iterator[Row]:
    machine = Machine.measured(TYPES[precision])
    for axis, value in SIZES:
        one = sized(axis, value, precision)
        works, counts = _parts(one)
        flops = _flops(one)
        for row in interleaved(works, "loss", rounds=rounds, turn=0.05, label=f"{axis} {value}"):
            name = str(row["candidate"])
            milliseconds = float(str(row["ms"])) * counts[name]
            limit = 1e3 * flops[name] / machine.flops_per_second
            yield {
                "axis": axis,
                "value": value,
                "precision": precision,
                "part": name,
                "ms": milliseconds,
                "limit_ms": limit,
                "times_limit": milliseconds / limit if limit else None,
            }


def _flops(one: Step) -> dict[str, float]:
    """Of a step, by part; what is no product has none."""
    parts = one.model.flops_by_part(one.length)
    tokens = BACKWARD * one.rows * one.length
    found = {
        "attention": parts.attention,
        "GEGLU": parts.feed_forward,
        "experts": parts.experts + parts.gate,
        "loss": parts.output,
    }
    return {name: float(tokens * flops) for name, flops in found.items()} | {
        "norms": 0.0,
        "update": 0.0,
    }


def _parts(one: Step) -> tuple[dict[str, Work], dict[str, int]]:
    """The work of one of each, and how many of them a step has."""
    model = Glam(one.model, dtype=TYPES[one.precision])
    layers, moe = one.model.num_layers, one.model.num_moe_layers
    x = torch.randn(one.rows, one.length, one.model.d_model).to(TYPES[one.precision])
    dense, sparse = (model.get_submodule(f"layers.{index}") for index in (0, 1))
    works: dict[str, Work] = {
        "attention": _trained(dense.get_submodule("attention"), x),
        "GEGLU": _trained(dense.get_submodule("ffn"), x),
        "experts": _trained(sparse.get_submodule("ffn"), x),
        "norms": _trained(dense.get_submodule("ffn_norm"), x),
        "loss": _loss(one, x),
        "update": _update(model),
    }
    counts = {"attention": layers, "GEGLU": layers - moe, "experts": moe, "norms": 2 * layers + 1}
    return works, counts | {"loss": 1, "update": 1}


def _trained(part: nn.Module, x: Tensor) -> Work:
    is_attention = hasattr(part, "position")
    x, upstream = x.clone().requires_grad_(), torch.randn_like(x)

    def work() -> None:
        made = part(x, None) if is_attention else part(x)
        (made if isinstance(made, Tensor) else made[0]).backward(upstream)
        x.grad = None
        part.zero_grad()

    return work


def _loss(one: Step, x: Tensor) -> Work:
    x = x.flatten(0, 1).clone().requires_grad_()
    w = torch.randn(one.model.vocab_size, one.model.d_model).requires_grad_()
    targets = torch.randint(0, one.model.vocab_size, (len(x),))

    def work() -> None:
        token_losses(x, w, targets, None, WHOLE).mean.backward()
        x.grad = w.grad = None

    return work


def _update(model: Glam) -> Work:
    optimizer = build_optimizer(AdamWConfig(learning_rate=1e-6), model)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)

    def work() -> None:
        grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), 1.0, norm)
        optimizer.step()

    return work
