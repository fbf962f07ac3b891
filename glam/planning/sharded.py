"""Activations and communication of one device of a slice, counted from the layout table.

Modelled, not measured: weights, gradients and optimizer state are exact, but a compiler chooses
which activations it keeps. Here it keeps what the backward pass reads; the output's logits come
in pieces; weights that are split along the batch's mesh axis are gathered for their product and
let go. A TPU holds attention's probabilities, a GPU makes them again (flex attention). Where
processes of torch compute a layer in parts (`glam.engines.tensor_parallel`), its activations of
width `d_model` are whole in each of them, and split between layers at most.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from glam.config import RunConfig
from glam.config.layout import local_shape, loss_pieces, parameters, partition

FLOAT32 = 4
LOGITS_AT_ONCE = 2**25


class Local(NamedTuple):
    """One device's share of each axis of a training step."""

    tokens: float
    M: float  # of activations between layers
    width: float  # of those in a layer
    heads: float
    A: float  # heads times d_head
    H: float
    rows: float  # of all its experts, for each of its tokens
    slots: float  # per expert and row of the batch; 0 where dropless

    @classmethod
    def of(cls, config: RunConfig, imbalance: float) -> "Local":
        model, shards = config.model, config.hardware.shards
        heads = model.num_heads / shards("heads")
        kind, length = config.model_as_built.dispatcher_config, config.training.sequence_length
        slots = model.slots_per_expert(length) if kind.one_hot else 0
        rows = kind.rows(model, length) / length if kind.static_shapes else model.top_k * imbalance
        between = model.d_model / shards("activation")
        return cls(
            tokens=config.training.tokens_per_step / shards("batch"),
            M=between,
            width=model.d_model if config.hardware.is_cluster else between,
            heads=heads,
            A=heads * model.head_size,
            H=model.d_ff / shards("hidden"),
            rows=rows * shards("batch") / shards("experts"),
            slots=slots,
        )


class Activations(NamedTuple):
    """Bytes at the peak of a step."""

    kept: float  # between the forward and the backward pass
    passing: float  # while the widest layer runs
    dispatch: float  # of both: rows of experts, and one-hot matrices that assign their slots


def activations(config: RunConfig, size: int, imbalance: float) -> Activations:
    """Bytes of activations of one device, of `size` bytes an element. `imbalance`: load of the
    busiest device's experts over the mean."""
    local = Local.of(config, imbalance)
    model, again = config.model, config.training.rematerialize
    kinds = {
        moe: _layer(config, local, size, is_moe=moe)
        for moe in (False, True)
        if any(model.is_moe_layer(index) is moe for index in range(model.num_layers))
    }
    counts = {True: model.num_moe_layers, False: model.num_layers - model.num_moe_layers}
    inputs = local.tokens * local.M * size
    widest = max(kinds.values(), key=lambda one: one.kept + one.passing)
    # Where a layer is made again, its gradients stand beside all of it.
    passing = widest.passing + 3 * local.tokens * local.width * size + _logits(config, local, size)
    stacked = _stacked_weights(config, size) if config.hardware.scan else 0.0
    if again:
        kept = model.num_layers * inputs + stacked
        return Activations(kept, 2 * widest.kept + passing, widest.dispatch)
    kept = stacked + sum(counts[moe] * one.kept for moe, one in kinds.items())
    dispatch = sum(counts[moe] * one.dispatch for moe, one in kinds.items())
    return Activations(kept, passing, dispatch)


def _layer(config: RunConfig, local: Local, size: int, *, is_moe: bool) -> Activations:
    model, length = config.model, config.training.sequence_length
    kept = 4 * local.width * size + 5 * local.A * size
    scores = local.heads * FLOAT32
    if config.hardware.is_xla:
        scores = local.heads * length * 2 * FLOAT32
        kept += local.heads * length * size
    gathered = 2 * model.d_model * size  # a token's activations, whole for a product
    dispatch = 0.0
    if is_moe and model.is_sparse:
        kept += FLOAT32 * (local.width + model.num_experts)  # the gate
        one_hot = 2 * model.num_experts * local.slots * size
        dispatch = local.rows * 2 * (local.width + local.H) * size + one_hot
    elif is_moe:
        kept += 2 * model.top_k * local.H * size
    else:
        kept += 4 * local.H * size
    weights = max(_gathered_weights(config, size), default=0.0)
    return Activations(
        local.tokens * (kept + dispatch),
        local.tokens * (scores + gathered) + weights,
        local.tokens * dispatch,
    )


def _logits(config: RunConfig, local: Local, size: int) -> float:
    logits = local.tokens * config.model.vocab_size / config.hardware.shards("vocab")
    if config.hardware.is_xla:
        return logits / loss_pieces(config) * (FLOAT32 + size)
    return min(logits, LOGITS_AT_ONCE) * (FLOAT32 + size)


def _stacked_weights(config: RunConfig, size: int) -> float:
    """Bytes of the layers' matrices stacked for a loop (`lax.scan` style), in the type of the
    products."""
    return size * sum(
        weight.layers * math.prod(local_shape(weight, config.hardware))
        for weight in parameters(config.model)
        if weight.part in ("attention", "feed_forward", "experts") and len(weight.shape) > 1
    )


def _gathered_weights(config: RunConfig, size: int) -> Iterable[float]:
    """Bytes of each matrix after its all-gather along the batch's mesh axis."""
    batch = config.hardware.rules.get("batch")
    for weight in parameters(config.model):
        if weight.part in ("attention", "feed_forward", "embedding"):
            axes = partition(weight.letters, config.hardware)
            whole = config.hardware.mesh[batch] if batch and batch in axes else 1
            yield size * whole * math.prod(local_shape(weight, config.hardware))


def step_flops(config: RunConfig) -> float:
    """FLOPs of one device in a training step with static shapes: attention over every position,
    masked or not, experts on every slot, and dispatch by products with one-hot matrices."""
    model, length = config.model, config.training.sequence_length
    again = config.training.rematerialize
    parts = model.flops_by_part(length)
    ahead = model.num_layers * 2 * (length - 1) * model.num_heads * model.head_size
    forward = parts.attention + ahead + parts.feed_forward + parts.gate
    one_hot = 0
    if model.is_sparse:
        kind = config.model_as_built.dispatcher_config
        rows = kind.rows(model, length)
        forward += parts.experts * rows / (model.top_k * length)
        # The way in has no gradient but that of the tokens.
        passes = ((2 + again) * (model.d_model + model.top_k), (3 + again) * model.d_model)
        one_hot = model.num_moe_layers * 2 * rows * sum(passes) if kind.one_hot else 0
    training = (3 + again) * forward + 3 * parts.output + one_hot
    return config.training.tokens_per_step * training / config.hardware.devices


class Communication(NamedTuple):
    """Bytes that one device sends in a step, by purpose. A ring of n sends (n - 1)/n of the tensor
    in an all-gather or reduce-scatter, and twice that in an all-reduce."""

    weights: float  # gathered in the forward and in the backward pass
    gradients: float  # summed over the batch, scattered where the weight is split
    activations: float  # gathered and scattered around each product in parts, or summed after it
    experts: float  # tokens to their experts and back, all to all


def communication(config: RunConfig, size: int, imbalance: float) -> Communication:
    """Bytes that one device sends in a step, by purpose. `imbalance`: as in `activations`."""
    hardware, model = config.hardware, config.model
    local, again = Local.of(config, imbalance), config.training.rematerialize
    batch = hardware.rules.get("batch")
    b, e = hardware.shards("batch"), hardware.shards("experts")
    # Products in parts are summed where the activations are whole, which sends as much.
    m = max(hardware.shards(axis) for axis in ("activation", "heads", "hidden"))
    weights = gradients = 0.0
    for weight in parameters(model):
        held = weight.layers * math.prod(local_shape(weight, hardware))
        axes = partition(weight.letters, hardware)
        if weight.part == "experts" and "experts" in hardware.rules:
            continue  # its tokens come to it, and its gradient stays
        if batch is not None and batch in axes:
            weights += (2 + again) * (b - 1) * held * size
            gradients += (b - 1) * held * FLOAT32
        elif weight.learns:
            gradients += 2 * (b - 1) / b * held * FLOAT32
    passes = 2 + again  # forward, backward, and the forward pass again
    row = model.d_model * size * (m - 1) / m
    moe = model.num_moe_layers if model.is_sparse else 0
    rows = local.rows * e / b * local.width * size * (e - 1) / e
    return Communication(
        weights=weights,
        gradients=gradients,
        # Attention and what follows it: gathered before, scattered after.
        activations=passes * model.num_layers * 4 * local.tokens * row,
        experts=passes * moe * 2 * local.tokens * rows,
    )
