"""Attention, experts and loss on one device, each beside what it is to be compared with. Prints the
rows as JSON.

python -m experiments.gpu_first_hour.parts attention|experts|loss|mixtral cuda|cpu
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks import peers
from experiments.gpu_first_hour.step import batch_of, built, config_of, stepping
from experiments.gpu_first_hour.turns import Turn, Work, turns
from experiments.tpu_first_hour.rows import Row
from glam.config import ModelConfig
from glam.machine.resources import resolve
from glam.model.attention.attention import Attention, DocumentMask
from glam.model.feed_forward import FeedForward
from glam.model.loss import Softmax, compiled_softmax, softmax_losses, token_losses
from glam.model.moe.moe import MixtureOfExperts

# Of 1.7B/64E, and of a dry run.
SIZES = {
    "cuda": ModelConfig(
        vocab_size=256_000, d_model=2048, d_ff=8192, num_heads=16, d_head=128, num_experts=64
    ),
    "cpu": ModelConfig(vocab_size=512, d_model=64, d_ff=128, num_heads=2, num_experts=4),
}
ROWS = {"cuda": (8, 1024), "cpu": (2, 128)}
NARROW = torch.bfloat16


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, fullgraph=True, dynamic=False)


def drawn(module: nn.Module, device: str) -> nn.Module:
    """With the weights of a model at its start, or nearly."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-2] ** -0.5 if parameter.ndim > 1 else 0.1)
    return module.to(device)


def trained(run: Callable[[Tensor], Tensor], x: Tensor, weights: Sequence[Tensor]) -> Work:
    """A forward and a backward pass, to the input and the weights."""
    d_y = torch.randn_like(x)
    return lambda: torch.autograd.grad(run(x), [x, *weights], d_y)


def inputs(config: ModelConfig, device: str) -> Tensor:
    shape = (*ROWS[device], config.d_model)
    return torch.randn(shape, dtype=NARROW, device=device, requires_grad=True)


def rows_of(part: str, reference: str, found: dict[str, Turn]) -> list[Row]:
    timed = [Row(part, name, "ms", f"{1e3 * turn.seconds:.3f}") for name, turn in found.items()]
    ratios = [
        Row(part, name, f"ratio to {reference}", f"{turn.ratio:.3f}")
        for name, turn in found.items()
        if name != reference
    ]
    return [*timed, *ratios]


def attention(device: str) -> list[Row]:
    """The whole attention of a layer, its four projections included."""
    config = SIZES[device]
    layer, x = drawn(Attention(config), device), inputs(config, device)
    assert isinstance(layer, Attention)
    weights = list(layer.parameters())

    def causal(x: Tensor) -> Tensor:
        q, k, v = layer._heads(x)  # pyright: ignore[reportPrivateUsage]
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).flatten(2) @ layer.w_out_AM.to(x.dtype)

    reference = "causal SDPA without bias"
    unbiased = [w for w in weights if w is not layer.position.bias_NR]
    candidates = {
        reference: trained(compiled(causal) if device == "cuda" else causal, x, unbiased),
        "bias, by operators": trained(lambda x: layer(x, None), x, weights),
    }
    if device == "cuda":  # FlexAttention has no backward pass on a CPU
        mask = documents(device)
        fused = {
            "bias, fused": lambda x: layer(x, mask),
            "bias, fused, its gradient by FlexAttention": lambda x: bias_by_flex(layer, mask, x),
        }
        candidates |= {name: trained(compiled(run), x, weights) for name, run in fused.items()}
    return rows_of("attention", reference, turns(candidates, reference))


def documents(device: str) -> DocumentMask:
    from glam.model.attention.flex import document_blocks

    return document_blocks(torch.zeros(ROWS[device], dtype=torch.int64, device=device))


def bias_by_flex(layer: Attention, mask: DocumentMask, x: Tensor) -> Tensor:
    """Fused attention whose table gets its gradient from FlexAttention, by atomic additions."""
    from torch.nn.attention.flex_attention import flex_attention

    q, k, v = layer._heads(x)  # pyright: ignore[reportPrivateUsage]
    table = layer.position.by_distance(x.shape[1])
    biased: Any = lambda score, b, h, i, j: score + table[h, (i - j).clamp(min=0)]  # noqa: E731
    y: Any = flex_attention(q, k, v, score_mod=biased, block_mask=mask.blocks)
    return y.transpose(1, 2).flatten(2) @ layer.w_out_AM.to(x.dtype)


def experts(device: str) -> list[Row]:
    """An MoE layer beside its dense twin, which has the FLOPs of a token's experts."""
    config = SIZES[device]
    x, reference = inputs(config, device), "dense twin"
    twin = drawn(FeedForward(config.d_model, config.top_k * config.d_ff), device)
    ours = drawn(MixtureOfExperts(config), device)

    def layer(x: Tensor) -> Tensor:
        return ours(x).y

    of_twin, of_ours = list(twin.parameters()), list(ours.parameters())
    works = {reference: trained(compiled(twin) if device == "cuda" else twin, x, of_twin)}
    works["glam, not compiled"] = trained(layer, x, of_ours)
    if device == "cuda":
        works["glam"] = trained(compiled(layer), x, of_ours)
    found = rows_of("experts", reference, turns(works, reference))
    # The peer beside the twin alone: all three may not fit.
    twin_again = works[reference]
    del works, ours, of_ours, layer
    if importlib.util.find_spec("transformers") is None:
        return [*found, Row("experts", "HF Mixtral", "left out", "", "no transformers here")]
    with torch.device(device):
        peer = peers.mixtral_block(config.d_model, config.d_ff, config.num_experts, config.top_k)
    peer.to(NARROW)
    theirs = trained(partial(first, peer), x, list(peer.parameters()))
    pair = turns({reference: twin_again, "HF Mixtral": theirs}, reference)
    del pair[reference]
    return found + rows_of("experts", reference, pair)


def first(block: nn.Module, x: Tensor) -> Tensor:
    y = block(x)
    return y[0] if isinstance(y, tuple) else y


def loss(device: str) -> list[Row]:
    """The output loss beside its three products alone."""
    config, reference = SIZES[device], "three products"
    T, M, V = ROWS[device][0] * ROWS[device][1], config.d_model, config.vocab_size
    x = torch.randn(T, M, dtype=NARROW, device=device, requires_grad=True)
    w = (torch.randn(V, M, device=device) * M**-0.5).requires_grad_()
    targets = torch.randint(V, (T,), device=device)

    def products() -> None:
        narrow, part = w.detach().to(NARROW), x.detach()
        for rows in part.split(max(1, 2**29 // V)):
            logits = rows @ narrow.t()
            torch.mm(logits, narrow)
            torch.mm(logits.t(), rows)

    def by(softmax: Softmax) -> Any:
        mean = token_losses(x, w, targets, config.logit_cap, softmax=softmax).mean
        return torch.autograd.grad(mean, [x, w])

    works: dict[str, Work] = {reference: products, "by operators": partial(by, softmax_losses)}
    if device == "cuda":
        works["compiled"] = partial(by, compiled_softmax())
    return rows_of("loss", reference, turns(works, reference))


# Experts in every layer, as Mixtral has them; both with their optimizer's state fit 80 GB.
BOTH = {
    "cuda": ("model=glam_100m64e", "model.num_layers=6", "training.batch_size=8"),
    "cpu": ("model=glam_tiny", "training=tiny"),
}


def mixtral(device: str) -> list[Row]:
    """A whole step beside Hugging Face's: equal sizes, FLOPs of experts, and AdamW."""
    if importlib.util.find_spec("transformers") is None:
        return [Row("HF Mixtral", "step", "left out", "", "no transformers here")]
    alike = ("model.moe_every=1", "optimizer=adamw", f"hardware={device.replace('cuda', 'gpu')}")
    config = config_of([*BOTH[device], *alike, "hardware.precision=bfloat16"])
    resources, training = resolve(config), config.training
    step, batch = stepping(config, built(config, resources)), batch_of(config, device)
    shape = (training.batch_size, training.sequence_length)
    works: dict[str, Work] = {
        "HF Mixtral": peers.mixtral(config.model, NARROW, *shape, device=device),
        "glam": lambda: step(batch),
    }
    return rows_of("step beside HF Mixtral", "HF Mixtral", turns(works, "HF Mixtral"))


PARTS = {"attention": attention, "experts": experts, "loss": loss, "mixtral": mixtral}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](sys.argv[2])))
