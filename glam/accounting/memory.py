"""Bytes that training needs on one device, counted from the configuration alone.

The count follows `glam/model` tensor by tensor, in what autograd keeps for the backward pass and
in what the widest layer needs beside it. Weights, gradients and optimizer state are exact; for
activations and libraries, tests/accounting/test_memory.py holds it against measured peaks.
"""

import math
from typing import NamedTuple

from glam.config import AdafactorConfig, ModelConfig, RunConfig
from glam.resources import Precision

FLOAT32 = 4
SIZE = {"float32": FLOAT32, "bfloat16": 2}
# Measured: 550 MB of imports, and what malloc and the libraries hold after the first steps.
OTHER = 650_000_000
# oneDNN keeps a kernel for every shape that it has met in bfloat16, at most 1,024 of them; routing
# makes new row counts at every step (but where rows come in blocks: glam/model/block_layout.py).
KERNEL, KERNELS = 700_000, 1024
BLOCKS_UP_TO = 2**15  # elements of a matrix
QUERIES = 128  # in a block of attention
ALLOCATOR = 1.05  # what malloc holds over what is in use: freed blocks that fit nothing asked for
LOGITS_AT_ONCE = 2**25  # as glam/model/loss.py


class MemoryEstimate(NamedTuple):
    """Bytes on one device at the peak of a training step."""

    weights: int
    optimizer: int
    gradients: int
    activations: int
    other: int  # interpreter and libraries

    @property
    def total(self) -> int:
        return sum(self)


def memory(config: RunConfig, precision: Precision | None = None) -> MemoryEstimate:
    """Of one training process. `precision` is that of the activations; None: as configured, or
    where that is `auto`, whichever needs more."""
    if precision is None and config.hardware.precision == "auto":
        return max(memory(config, "bfloat16"), memory(config, "float32"), key=lambda m: m.total)
    size = SIZE[precision or config.hardware.precision]
    weights = weight_bytes(config.model)
    return MemoryEstimate(
        weights=weights,
        optimizer=optimizer_bytes(config),
        gradients=weights,
        activations=int(ALLOCATOR * activation_bytes(config, size)),
        other=OTHER + KERNEL * num_kernels(config.model, size),
    )


def num_kernels(model: ModelConfig, size: int) -> int:
    """After a few steps: six products per expert, each with a few row counts."""
    ragged = model.is_sparse and model.dispatcher == "grouped"
    if size == FLOAT32 or not ragged or model.d_model * model.d_ff <= BLOCKS_UP_TO:
        return 0
    return min(KERNELS, 18 * model.num_experts * model.num_moe_layers)


def weight_bytes(model: ModelConfig) -> int:
    return FLOAT32 * (model.num_params + model.num_embedding_params)


def checkpoint_bytes(config: RunConfig) -> int:
    """On disk: two checkpoints are kept, and a third is written before one is deleted."""
    return 3 * (weight_bytes(config.model) + optimizer_bytes(config))


def optimizer_bytes(config: RunConfig) -> int:
    """AdamW keeps two moments of everything; Adafactor a row and a column of every matrix."""
    model = config.model
    if not isinstance(config.optimizer, AdafactorConfig):
        return 2 * weight_bytes(model)
    M, H, A = model.d_model, model.d_ff, model.num_heads * model.head_size
    experts = model.num_experts if model.is_sparse else 1
    hidden = H if model.is_sparse else model.top_k * H
    attention = 4 * (M + A) + model.num_heads + model.position_buckets + 2 * M
    moe = 2 * experts * (M + hidden) + (M + 2 * experts if model.is_sparse else 0)
    dense = 3 * (M + H)
    rows = model.num_layers * attention + model.num_moe_layers * moe
    rows += (model.num_layers - model.num_moe_layers) * dense
    return FLOAT32 * (rows + model.vocab_size + 2 * M)


class Layer(NamedTuple):
    """Bytes of one layer: kept for the backward pass, and needed only while it runs."""

    kept: float
    passing: float


def activation_bytes(config: RunConfig, size: int) -> float:
    """What a forward pass keeps and the widest moment beside it; `size` bytes per activation."""
    model, tokens = config.model, config.training.tokens_per_step
    layers = [layer(config, index, size) for index in range(model.num_layers)]
    inputs = tokens * model.d_model * size
    if config.training.rematerialize:
        widest = max(one.kept + one.passing for one in layers)
        kept = model.num_layers * inputs + widest
    else:
        kept = sum(one.kept for one in layers) + max(one.passing for one in layers)
    mask = tokens * config.training.sequence_length * (size + 1)
    return kept + 3 * inputs + mask + _logits(model, tokens, size)


def layer(config: RunConfig, index: int, size: int) -> Layer:
    model, tokens = config.model, config.training.tokens_per_step
    norms = 2 * model.d_model * (FLOAT32 + 2 * size)
    attention = _attention(model, config.training.sequence_length, size)
    mixing = _mixing(model, index, config.training.sequence_length, size)
    copies = _copies(model, index, size)
    kept = tokens * (norms + attention.kept + mixing.kept) + copies.kept
    return Layer(kept, tokens * max(attention.passing, mixing.passing) + copies.passing)


def _attention(model: ModelConfig, length: int, size: int) -> Layer:
    """Per token. Weights are kept for the keys up to the end of a query's block alone."""
    block = min(length, QUERIES)
    width = model.num_heads * model.head_size
    kept = model.num_heads * (length + block) / 2 * size + 4 * width * size
    return Layer(kept, 3 * model.num_heads * block * size + 4 * width * size)


def _mixing(model: ModelConfig, index: int, length: int, size: int) -> Layer:
    """Per token: both sides of the GELU for each unit that the token meets, and its rows."""
    M, H, k = model.d_model, model.d_ff, model.top_k
    if not model.is_moe_layer(index):
        return Layer(4 * H * size, 3 * H * size)
    if not model.is_sparse:
        return Layer(2 * k * H * size, 2 * k * H * size)
    gate = FLOAT32 * (M + 3 * model.num_experts)
    if model.dispatcher == "grouped":
        return Layer(gate + 2 * k * (M + H) * size, 2 * k * (M + H) * size)
    E = model.num_experts
    seats = min(length, max(model.min_capacity, math.ceil(model.capacity_factor * k * length / E)))
    rows = E * seats / length  # seats per token, taken or not
    one_hot = 3 * E * seats * size + k * (E + seats) * size
    return Layer(gate + one_hot + 2 * rows * (M + H) * size, one_hot + 2 * rows * (M + H) * size)


def _copies(model: ModelConfig, index: int, size: int) -> Layer:
    """Weights cast to a narrower type, kept for the backward pass; and one matrix's gradient in
    that type on its way to float32."""
    if size == FLOAT32:
        return Layer(0, 0)
    M, H = model.d_model, model.d_ff
    attention = 4 * M * model.num_heads * model.head_size
    if model.is_moe_layer(index):
        matrix = M * H * (model.num_experts if model.is_sparse else model.top_k)
        return Layer(size * (attention + 2 * matrix), size * matrix)
    return Layer(size * (attention + 3 * M * H), size * M * H)


def _logits(model: ModelConfig, tokens: int, size: int) -> float:
    """A piece of the logits, the embedding in a narrower type, and its gradient: made in the
    forward pass, in that type on its way to float32."""
    logits = min(tokens * model.vocab_size, max(LOGITS_AT_ONCE, model.vocab_size))
    narrow = 2 * size if size < FLOAT32 else 0
    return logits * size + (FLOAT32 + narrow) * model.num_embedding_params
