"""Bytes that training needs on one device, counted from the configuration alone.

The count follows `glam/model` tensor by tensor, in what autograd keeps for the backward pass and
in what the widest layer needs beside it. Weights, gradients and optimizer state are exact; for
activations and libraries, tests/planning/test_memory.py compares it with measured peaks.
"""

import math
from dataclasses import replace
from typing import NamedTuple

from glam.config import ModelConfig, RunConfig, TrainingConfig
from glam.config.layout import Parameter, local_shape, parameters
from glam.machine.compiled import LEAST_HEAD
from glam.machine.resources import MAPPED, Precision, is_cpu, is_gpu
from glam.planning import sharded

FLOAT32, INT64 = 4, 8
SIZE = {"float32": FLOAT32, "bfloat16": 2}
# Fitted: 550 MB of imports, and what malloc and the libraries hold after the first steps.
OTHER = 600_000_000
# oneDNN keeps the kernels of six products for every row count that an expert has had in bfloat16.
# Fitted to peaks after 40 steps, by which most counts have come.
KERNELS_OF_A_SIZE = 7_000_000
# As in glam/model, which this package, being without torch, cannot ask (a test holds them equal):
# what our own kernels multiply, the row counts of other experts, the logits of the loss.
STEP = 32  # rows and columns
FILL, SIZES_PER_OCTAVE = 16, 16  # rows; row counts
LOGITS_AT_ONCE, LOGITS_ON_GPU = 2**25, 2**29
WAVE = 1024  # rows of a feed-forward that a float32 kernel works on between two products
FEWEST, MOST = 128, 512  # tokens whose logits a float32 kernel makes at once
# Fitted: what malloc holds over what is in use, freed blocks that fit nothing asked for.
ALLOCATOR = 1.25


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


def memory(
    config: RunConfig, precision: Precision | None = None, imbalance: float = 1.0
) -> MemoryEstimate:
    """The bytes of one training process, or of one device of a described slice under its layout.

    `precision`: of the activations; None: as configured, and for `auto` the one that needs more.
    `imbalance`: rows of the busiest device's experts over the mean, where experts are dropless and
    split among devices."""
    if precision is None and config.hardware.precision == "auto":
        both = (memory(config, "bfloat16", imbalance), memory(config, "float32", imbalance))
        return max(both, key=lambda estimate: estimate.total)
    size = SIZE[precision or config.hardware.precision]
    weights = weight_bytes(config)
    if config.hardware.is_described:  # what a TPU's compiler keeps is not in its memory_gb
        found = sharded.activations(config, size, imbalance)
        activations, other = found.kept + found.passing, 0
    else:
        activations = ALLOCATOR * activation_bytes(config, size)
        other = OTHER + KERNELS_OF_A_SIZE * num_sizes(config, size)
    return MemoryEstimate(
        weights=weights,
        optimizer=optimizer_bytes(config),
        gradients=_gradient_bytes(config),
        activations=int(activations),
        other=other,
    )


def num_sizes(config: RunConfig, size: int) -> int:
    """How many distinct row counts of an expert oneDNN makes kernels for; `size` is of an
    activation in bytes."""
    model, training = config.model, config.training
    if not _is_filled(model, size):
        return 0
    rows = training.tokens_per_step * model.top_k
    octaves = math.log2(max(1, rows / (FILL * SIZES_PER_OCTAVE)))
    sizes = min(rows / FILL, SIZES_PER_OCTAVE * (1 + octaves))
    return math.ceil(min(sizes, training.num_steps * model.num_experts * model.num_moe_layers))


def weight_bytes(config: RunConfig) -> int:
    """Of all weights on one device, in float32."""
    return _bytes_of(config, parameters(config.model))


def _bytes_of(config: RunConfig, weights: list[Parameter]) -> int:
    held = (w.layers * math.prod(local_shape(w, config.hardware)) for w in weights)
    return int(FLOAT32 * sum(held))


def _gradient_bytes(config: RunConfig) -> int:
    """Of all weights that learn; of the largest one only where each gradient is applied and freed
    in the backward pass (`training.update_in_backward`)."""
    if not config.training.update_in_backward:
        return _bytes_of(config, [w for w in parameters(config.model) if w.learns])
    sizes = (math.prod(local_shape(w, config.hardware)) for w in parameters(config.model))
    return int(FLOAT32 * max(sizes))


def checkpoint_bytes(config: RunConfig) -> int:
    """Bytes on disk: of the checkpoints that are kept for good, of the newest, of those that a
    rollback may need, and of one that is written before an old one is deleted."""
    training = config.training
    milestones = training.num_steps // training.milestone_steps if training.milestone_steps else 0
    count = milestones + training.keep_checkpoints + training.rollback_checkpoints + 1
    return count * config.hardware.devices * (weight_bytes(config) + optimizer_bytes(config))


def optimizer_bytes(config: RunConfig) -> int:
    """On one device."""
    numbers = (
        weight.layers * config.optimizer.state_size(local_shape(weight, config.hardware))
        for weight in parameters(config.model)
        if weight.learns
    )
    return int(FLOAT32 * sum(numbers))


class Layer(NamedTuple):
    """Bytes of one layer: kept for the backward pass, and needed beside that while it runs."""

    kept: float
    passing: float


def activation_bytes(config: RunConfig, size: int) -> float:
    """Peak bytes of a step beyond weights, optimizer state and a full set of gradients, with `size`
    bytes per activation. The previous step's gradients are freed after the forward pass; in the
    backward pass the gradients of the layers below the current one do not exist yet.

    With rematerialization malloc's heap fragments: each layer's gradients lie between the gaps that
    its activations left. The widest layer therefore counts twice, and the heap's gradients once
    more, half of them in bfloat16 (fitted to measured peaks)."""
    held = config.training.update_in_backward or config.training.accumulate > 1
    config = _of_a_part(config)
    model, tokens = config.model, config.training.tokens_per_step
    inputs = tokens * model.d_model * size
    mask = tokens * config.training.sequence_length * size  # of all layers, in the forward pass
    again = config.training.rematerialize
    layers = _layers(config, size)
    kept = model.num_layers * inputs if again else sum(one.kept for one in layers)
    # What the loss is made of: the last layer's output, its norm, and their gradient.
    moments = [kept + 3 * inputs + _logits(config, tokens, size)]
    widest = max(one.kept + one.passing for one in layers) if again else 2 * inputs
    moments.append(mask + kept + widest)  # the forward pass of the last layer
    # The tied embedding has two gradients, and the second is as large as the first.
    moments.append(FLOAT32 * model.num_embedding_params)
    if again:
        heap = _heap_gradients(model) * size / FLOAT32
        return max(*moments, mask + kept + 2 * widest + 3 * inputs + heap)
    below, missing = 0.0, 0.0
    for index, one in enumerate(layers):
        below += one.kept
        moments.append(below + one.passing + 3 * inputs - missing)
        if not held:
            missing += FLOAT32 * _layer_params(model, index)
    return max(moments)


def _of_a_part(config: RunConfig) -> RunConfig:
    """As for the rows that go through the model at once (`training.accumulate`)."""
    training = config.training
    rows = training.batch_size // training.accumulate
    return replace(config, training=replace(training, batch_size=rows, accumulate=1))


def _layers(config: RunConfig, size: int) -> list[Layer]:
    """Of all layers: those with experts are alike, and so are the others."""
    kinds: dict[bool, Layer] = {}
    for index in range(config.model.num_layers):
        if (kind := config.model.is_moe_layer(index)) not in kinds:
            kinds[kind] = layer(config, index, size)
    return [kinds[config.model.is_moe_layer(index)] for index in range(config.model.num_layers)]


def _heap_gradients(model: ModelConfig) -> int:
    """Bytes of the layers' gradients below MAPPED, which malloc takes from its heap."""
    M, H = model.d_model, model.d_ff
    moe = M * H * (model.num_experts if model.is_sparse else model.top_k)
    matrices: list[int] = []
    for index in range(model.num_layers):
        matrices += 4 * [M * model.num_heads * model.head_size]
        matrices += 2 * [moe] if model.is_moe_layer(index) else 3 * [M * H]
    return sum(FLOAT32 * matrix for matrix in matrices if FLOAT32 * matrix < MAPPED)


def _layer_params(model: ModelConfig, index: int) -> int:
    """Parameters of a layer's matrices."""
    M, H = model.d_model, model.d_ff
    attention = 4 * M * model.num_heads * model.head_size
    if not model.is_moe_layer(index):
        return attention + 3 * M * H
    return attention + 2 * M * H * (model.num_experts if model.is_sparse else model.top_k)


def layer(config: RunConfig, index: int, size: int) -> Layer:
    """Bytes of layer `index`, with activations of `size` bytes an element."""
    model, tokens = config.model, config.training.tokens_per_step
    norms = 4 * model.d_model * size + 2 * FLOAT32
    attention = _attention(config, size)
    by_kernel = size == FLOAT32 and is_cpu(config.hardware.device)
    ffn = _ffn(model, index, config.training, size, by_kernel=by_kernel)
    copies = _copies(model, index, size, whole=not is_cpu(config.hardware.device))
    kept = tokens * (norms + attention.kept + ffn.kept) + copies.kept
    return Layer(kept, tokens * max(attention.passing, ffn.passing) + copies.passing)


def _attention(config: RunConfig, size: int) -> Layer:
    """Attention per token. By the C kernel one head at a time, and attention weights are kept up to
    the last key of each chunk of queries only; on a GPU all of them, or none where it is fused."""
    model, length = config.model, config.training.sequence_length
    N, width = model.num_heads, model.num_heads * model.head_size
    if not is_gpu(config.hardware.device):
        return Layer(N * (length + STEP) / 2 * size + 4 * width * size, 4 * width * size)
    if not _is_fused(config):  # logits and weights in float32, and the weights as a factor
        return Layer(N * length * (FLOAT32 + size) + 4 * width * size, 2 * N * length * FLOAT32)
    # The logits of the band that gives the bias its gradient, their weights and their gradients.
    band = 3 * N * 2 * min(length, model.position_max_distance) * FLOAT32
    return Layer(4 * width * size + N * FLOAT32, 4 * width * size + band)


def _is_fused(config: RunConfig) -> bool:
    """Whether attention is one kernel of a GPU (`hardware.compile`)."""
    hardware = config.hardware
    wanted = hardware.compile != "off" and not hardware.is_cluster
    return wanted and config.model.head_size >= LEAST_HEAD


def _ffn(
    model: ModelConfig, index: int, training: TrainingConfig, size: int, *, by_kernel: bool
) -> Layer:
    """Per token: what goes into the GELU, for each unit that the token meets, and without experts
    what comes out; autograd drops that before it makes the others' gradients."""
    M, H, k, E = model.d_model, model.d_ff, model.top_k, model.num_experts
    if not model.is_moe_layer(index):
        if by_kernel:  # beside what is kept, the rows of a wave
            wave = min(1, WAVE / training.tokens_per_step)
            return Layer(2 * H * size, (wave * (M + 2 * H) + M) * size)
        return Layer(3 * H * size, 2 * H * size)
    if not model.is_sparse:
        return Layer((1 if by_kernel else 2) * k * H * size, k * H * size)
    # The router's input in float32, its softmax and the choices; and the softmax's gradients.
    gate = (FLOAT32 * M if size < FLOAT32 else 0) + FLOAT32 * E + 4 * k * INT64
    slopes = 2 * FLOAT32 * E
    if not model.dispatcher_config.static_shapes:
        rows = k + E * _filled_rows(model, size) / training.tokens_per_step
        # What comes of all rows, beside all else of the rows of one expert.
        passing = rows * (M + 2 * (M + H) / E) * size
        return Layer(gate + rows * H * size, max(slopes, passing))
    length = training.sequence_length
    slots = model.slots_per_expert(length) if model.dispatcher_config.one_hot else 0
    rows = model.dispatcher_config.rows(model, length) / length  # per token, filled or not
    one_hot = 2 * E * slots * size + k * (E + slots * size)
    passing = max(2 * E * slots + 2 * rows * M, rows * (M + H)) * size
    return Layer(gate + one_hot + 2 * rows * (M + H) * size, max(slopes, passing))


def _copies(model: ModelConfig, index: int, size: int, *, whole: bool) -> Layer:
    """Weights that are concatenated or cast to a narrower type and kept for the backward pass, and
    one matrix's gradient in that type before it becomes float32. Dropless experts keep none, except
    on a GPU, which casts them `whole`: two matrices of one expert and their gradients at a time."""
    M, H = model.d_model, model.d_ff
    attention = M * model.num_heads * model.head_size
    if size == FLOAT32:
        return Layer(3 * size * attention, 3 * size * attention)
    if not model.is_moe_layer(index):
        return Layer(size * (4 * attention + 3 * M * H), size * M * H)
    if model.is_sparse and not model.dispatcher_config.static_shapes and not whole:
        return Layer(size * 4 * attention, size * 4 * M * H)
    matrix = M * H * (model.num_experts if model.is_sparse else model.top_k)
    return Layer(size * (4 * attention + 2 * matrix), size * matrix)


def _filled_rows(model: ModelConfig, size: int) -> float:
    """Mean rows of padding per expert: half the distance between two row counts."""
    return FILL / 2 if size < FLOAT32 else 0


def _is_filled(model: ModelConfig, size: int) -> bool:
    """Whether oneDNN multiplies experts' rows in bfloat16."""
    ragged = model.is_sparse and not model.dispatcher_config.static_shapes
    return size < FLOAT32 and ragged and not _is_whole(model)


def _is_whole(model: ModelConfig) -> bool:
    """Whether a C kernel computes whole experts in bfloat16."""
    return model.d_model % STEP == model.d_ff % STEP == 0


def _logits(config: RunConfig, tokens: int, size: int) -> float:
    """Bytes of the loss, and of the embedding's gradient, which the forward pass computes. On a CPU
    the C kernel holds in float32 the tokens' gradient and the logits of a block of tokens, in
    bfloat16 (with AMX) no logits but the permuted tokens and their float32 gradient. On a GPU one
    chunk of the logits, which become their gradients; otherwise two."""
    model = config.model
    gradient = FLOAT32 * model.num_embedding_params
    if is_cpu(config.hardware.device) and size == FLOAT32:
        block = min(
            max(FEWEST, min(model.d_model, MOST)), max(1, LOGITS_AT_ONCE // model.vocab_size)
        )
        logits = min(block, tokens) * model.vocab_size
        return gradient + tokens * model.d_model * size + logits * FLOAT32
    if is_cpu(config.hardware.device) and model.d_model % STEP == 0:
        return gradient + tokens * model.d_model * (2 * size + FLOAT32)
    if is_gpu(config.hardware.device):  # the weight as a factor, and a piece of its gradient
        logits = min(tokens * model.vocab_size, max(LOGITS_ON_GPU, model.vocab_size))
        return gradient + size * (logits + 2 * model.num_embedding_params)
    logits = min(tokens * model.vocab_size, 2 * max(LOGITS_AT_ONCE, model.vocab_size))
    narrow = size * model.num_embedding_params if size < FLOAT32 else 0
    return gradient + logits * size + narrow
