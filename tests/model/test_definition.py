"""The whole model against its definition (paper, section 4), written out in float64, where every
matrix is square and where none is. A transposed, unscaled or exchanged part agrees with nothing."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from glam import kernels
from glam.config import BALANCE_LOSSES, ModelConfig, RouterConfig
from glam.config.layout import KINDS
from glam.model import Glam
from glam.model.attention.position import position_buckets
from glam.model.moe.experts_grouped_mm import experts_grouped_mm
from glam.model.moe.experts_loop import experts_loop

SQUARE = ModelConfig(  # width, heads, hidden units and experts: 8 of each
    vocab_size=11, num_layers=4, d_model=8, d_ff=8, num_heads=2, num_experts=8, top_k=2
)
CONFIGS = {
    "square": SQUARE,
    "oblong": dataclasses.replace(SQUARE, d_model=12, d_ff=20, num_heads=3, d_head=5),
    "square twin": dataclasses.replace(SQUARE, num_experts=1, top_k=1),
    "oblong twin": dataclasses.replace(SQUARE, d_ff=12, num_experts=1),
    "all experts": dataclasses.replace(SQUARE, moe_every=1, top_k=3),
    "every third": dataclasses.replace(SQUARE, moe_every=3, num_layers=6),
    "capped": dataclasses.replace(SQUARE, logit_cap=3.0),
    "few buckets": dataclasses.replace(SQUARE, position_buckets=4, position_max_distance=6),
    "plain gates": dataclasses.replace(SQUARE, router=RouterConfig(normalize=False)),
    "slots": dataclasses.replace(SQUARE, dispatcher="capacity", capacity_factor=8.0),
    **{
        f"balance {name}": dataclasses.replace(
            SQUARE, router=RouterConfig(balance_loss=name, balance_coefficient=0.3)
        )
        for name in BALANCE_LOSSES
    },
}


def norm(x: Tensor, scale: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * scale


def attention(x: Tensor, w: dict[str, Tensor], config: ModelConfig, segments: Tensor) -> Tensor:
    """Query by query, of one row `[S, M]`."""
    N, D, bucket = config.num_heads, config.head_size, buckets(config, len(x))
    q, k, v = (
        (x @ w[f"attention.w_{name}_MA"]).view(-1, N, D) for name in ("query", "key", "value")
    )
    bias = w["attention.position.bias_NR"]
    rows = []
    for i in range(len(x)):
        seen = [j for j in range(i + 1) if segments[j] == segments[i]]
        logits = torch.stack(
            [(q[i] * k[j]).sum(-1) / math.sqrt(D) + bias[:, bucket[i - j]] for j in seen]
        )
        rows.append((logits.softmax(0)[..., None] * v[seen]).sum(0).flatten())
    return torch.stack(rows) @ w["attention.w_out_AM"]


def buckets(config: ModelConfig, length: int) -> list[int]:
    """T5's, whose own test is tests/model/attention/test_position.py."""
    return position_buckets(length, config.position_buckets, config.position_max_distance).tolist()


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def feed_forward(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    if "ffn.w_gate_MH" not in w:
        return gelu(x @ w["ffn.w_in_MH"]) @ w["ffn.w_out_HM"]
    return (gelu(x @ w["ffn.w_gate_MH"]) * (x @ w["ffn.w_in_MH"])) @ w["ffn.w_out_HM"]


def experts(x: Tensor, w: dict[str, Tensor], config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Token by token, of all rows `[T, M]`; and the balance loss of the layer."""
    logits = x @ w["ffn.router.w_ME"] + w["ffn.router.bias_E"]
    gates, y, first = logits.softmax(-1), [], torch.zeros_like(logits)
    scores = gates.log() + w.get("ffn.router.bias_of_choice_E", 0)
    for token, gate in enumerate(gates):
        chosen = scores[token].topk(config.top_k).indices
        value = gate[chosen]
        first[token, chosen[0]] = 1
        if config.router.normalize:
            value = value / value.sum()
        y.append(
            sum(
                share * (gelu(x[token] @ w["ffn.experts.w_in_EMH"][e]) @ out[e])
                for share, e in zip(value, chosen, strict=True)
                for out in [w["ffn.experts.w_out_EHM"]]
            )
        )
    even = gates.mean(0)
    loss = {
        "none": torch.zeros(()).double(),
        "loss_free": torch.zeros(()).double(),
        "gshard": config.num_experts * (first.mean(0) * even).sum(),
        "entropy": (even * even.log()).sum(),
        "z_loss": logits.logsumexp(-1).square().mean(),
    }[config.router.balance_loss]
    return torch.stack(y), config.router.balance_coefficient * loss


def defined(model: Glam, tokens: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[B, S, V]`, and the sum of the layers' balance losses."""
    config, balance = model.config, torch.zeros(()).double()
    weights = dict(model.named_parameters())
    embedding = weights["embedding.w_VM"]
    x = embedding[tokens] * math.sqrt(config.d_model)
    for layer in range(config.num_layers):
        start = f"layers.{layer}."
        w = {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
        before = norm(x, w["attention_norm.scale_M"])
        x = x + torch.stack(
            [attention(row, w, config, which) for row, which in zip(before, segments, strict=True)]
        )
        before = norm(x, w["ffn_norm.scale_M"])
        if "ffn.router.w_ME" in w:
            y, loss = experts(before.flatten(0, 1), w, config)
            x, balance = x + y.view_as(x), balance + loss
        else:
            x = x + feed_forward(before, w)
    logits = norm(x, weights["norm.scale_M"]) @ embedding.T
    cap = config.logit_cap
    return (logits if cap is None else cap * torch.tanh(logits / cap)), balance


def drawn(config: ModelConfig) -> Glam:
    """Nothing as it starts: no bias is zero, no scale is one, no gate is even."""
    model = Glam(config, dtype=torch.float64).double()
    for name, parameter in model.named_parameters():
        if name != "embedding.w_VM":
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def batch(config: ModelConfig, length: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    tokens = torch.randint(config.vocab_size, (2, length))
    segments = torch.zeros(2, length, dtype=torch.int32)
    segments[1, 5:] = 1
    return tokens, torch.randint(config.vocab_size, (2, length)), segments


@pytest.mark.parametrize("form", ["kernels", "grouped_mm", "loop", "operators"])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_losses_and_gradients_are_those_of_the_definition(name, form, monkeypatch):
    if form in ("grouped_mm", "loop"):
        run = experts_grouped_mm if form == "grouped_mm" else experts_loop
        monkeypatch.setattr("glam.model.moe.grouped.experts_loop", run)
    if form == "operators":  # of a device that is no CPU
        monkeypatch.setattr(
            "glam.model.attention.attention.Attention._on_cpu",
            lambda layer, *inputs: layer._by_operators(*inputs),
        )
    model = drawn(CONFIGS[name])
    tokens, targets, segments = batch(model.config)
    logits, balance = defined(model, tokens, segments)
    loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    found = model(tokens, segments)
    torch.testing.assert_close(found.logits, logits)
    torch.testing.assert_close(found.balance_loss, balance)
    output = model.loss(tokens, targets, segments)
    torch.testing.assert_close((output.loss, output.balance_loss), (loss, balance))
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    every = [*parameters.values()]
    expected = torch.autograd.grad(loss + balance, every, allow_unused=True)
    mine = torch.autograd.grad(output.loss + output.balance_loss, every, allow_unused=True)
    for parameter, one, other in zip(parameters, mine, expected, strict=True):
        torch.testing.assert_close(one, other, msg=lambda m, at=parameter: f"{at}: {m}")


@pytest.mark.parametrize("name", ["square", "oblong", "square twin", "balance loss_free"])
def test_in_float32_the_kernels_compute_the_definition_too(name, kernels_here):
    """float64 is computed by torch's operators: the kernels have their own indices."""
    size = {"d_model": 32, "d_ff": 32, "d_head": 16}
    if name == "oblong":
        size = {"d_model": 48, "d_ff": 32, "d_head": 16}
    model = drawn(dataclasses.replace(CONFIGS[name], num_heads=2, **size))
    tokens, _, segments = batch(model.config)
    logits, balance = defined(model, tokens, segments)
    narrow = model.float()
    narrow.dtype = torch.float32
    found = narrow(tokens, segments)
    assert kernels.supported(found.logits)
    torch.testing.assert_close(found.logits.double(), logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.balance_loss.double(), balance, rtol=1e-4, atol=1e-5)


def test_every_kind_of_weight_starts_by_its_gain_over_the_root_of_its_inputs():
    """Of M inputs for most; the embedding is also the last matrix, of M inputs there."""
    wide = dataclasses.replace(SQUARE, d_model=64, d_ff=256, d_head=48, vocab_size=512)
    for name, weight in Glam(wide).named_parameters():
        own = name.rpartition(".")[2]
        if own.startswith("w_"):
            inputs = 64 if own == "w_VM" else weight.shape[-2]
            gain = 0.1 if own == "w_ME" else 1.0
            spread = weight.detach().square().mean().sqrt().item()
            assert spread == pytest.approx(gain / math.sqrt(inputs), rel=0.15), name
    assert {"w", "w_VM", "w_ME"} <= KINDS.keys()
