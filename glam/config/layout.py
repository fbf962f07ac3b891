"""The layout table: which mesh axis splits which axis of a weight.

A parameter's name ends in the letters of its axes (`w_in_EMH`), each letter stands for a logical
axis, and the rules of a hardware file give logical axes a mesh axis. One table for whoever asks:
the accounting here, without torch; the engines later.
"""

from typing import NamedTuple

from glam.config import HardwareConfig, ModelConfig, RunConfig, check_divisible
from glam.errors import UserError

# N: heads, beside A, which is heads times d_head: both are split by whole heads. R: buckets.
LETTERS: dict[str, str | None] = {
    "V": "vocab",
    "M": "embed",
    "A": "heads",
    "N": "heads",
    "H": "hidden",
    "E": "experts",
    "R": None,
}


class Parameter(NamedTuple):
    """A weight, and how many layers have one like it."""

    name: str  # as in the model, without the layer
    part: str  # attention | feed_forward | experts | gate | embedding | norms
    shape: tuple[int, ...]
    layers: int

    @property
    def letters(self) -> str:
        return self.name.rpartition("_")[2]


def parameters(model: ModelConfig) -> list[Parameter]:
    """Every weight of the built model, in its order within a layer."""
    M, H, N, A = model.d_model, model.d_ff, model.num_heads, model.num_heads * model.head_size
    layers, moe = model.num_layers, model.num_moe_layers
    found = [Parameter("embedding.w_VM", "embedding", (model.vocab_size, M), 1)]
    found += [Parameter(f"attention.w_{x}_MA", "attention", (M, A), layers) for x in _INPUTS]
    found += [
        Parameter("attention.w_out_AM", "attention", (A, M), layers),
        Parameter("attention.position.bias_NR", "attention", (N, model.position_buckets), layers),
        Parameter("ffn.w_gate_MH", "feed_forward", (M, H), layers - moe),
        Parameter("ffn.w_in_MH", "feed_forward", (M, H), layers - moe),
        Parameter("ffn.w_out_HM", "feed_forward", (H, M), layers - moe),
    ]
    if model.is_sparse:
        E = model.num_experts
        found += [
            Parameter("ffn.router.w_ME", "gate", (M, E), moe),
            Parameter("ffn.router.bias_E", "gate", (E,), moe),
            Parameter("ffn.experts.w_in_EMH", "experts", (E, M, H), moe),
            Parameter("ffn.experts.w_out_EHM", "experts", (E, H, M), moe),
        ]
    else:  # the dense twin's: two matrices
        wide = model.top_k * H
        found.append(Parameter("ffn.w_in_MH", "feed_forward", (M, wide), moe))
        found.append(Parameter("ffn.w_out_HM", "feed_forward", (wide, M), moe))
    found.append(Parameter("norm.scale_M", "norms", (M,), 2 * layers + 1))
    return [parameter for parameter in found if parameter.layers]


_INPUTS = ("query", "key", "value")


def partition(letters: str, hardware: HardwareConfig) -> tuple[str | None, ...]:
    """The mesh axis of each axis, None where it is whole. The first axis that a rule gives a mesh
    axis has it, the next goes without; vectors are whole everywhere."""
    if len(letters) < 2:
        return (None,) * len(letters)
    taken: list[str | None] = []
    for letter in letters:
        axis = hardware.rules.get(LETTERS[letter] or "")
        taken.append(axis if axis not in taken else None)
    return tuple(taken)


def local_shape(parameter: Parameter, hardware: HardwareConfig) -> tuple[float, ...]:
    """Of what one device holds."""
    axes = partition(parameter.letters, hardware)
    return tuple(
        size / (hardware.mesh[axis] if axis else 1)
        for size, axis in zip(parameter.shape, axes, strict=True)
    )


def check_divides(config: RunConfig) -> None:
    """Raises UserError for a mesh that does not divide what it is to split, and for layers that
    are no loop."""
    hardware, model = config.hardware, config.model
    _check_loops(hardware, model)
    wanted = [
        ("batch", "training.batch_size", config.training.batch_size),
        ("activation", "model.d_model", model.d_model),
        ("embed", "model.d_model", model.d_model),
        ("heads", "model.num_heads", model.num_heads),
        ("hidden", "model.d_ff", model.d_ff),
        ("vocab", "model.vocab_size", model.vocab_size),
    ]
    if model.is_sparse:
        wanted.append(("experts", "model.num_experts", model.num_experts))
    for axis, key, value in wanted:
        check_divisible(axis, key, value, hardware)


def _check_loops(hardware: HardwareConfig, model: ModelConfig) -> None:
    """A turn of a loop over layers ends with a layer of experts."""
    if not hardware.scan:
        return
    if not model.is_sparse:
        raise UserError(
            f"hardware.scan=true needs layers of experts, and model={model.name} has none with "
            f"model.num_experts={model.num_experts} and model.moe_every={model.moe_every}; "
            f"set hardware.scan=false"
        )
    if model.num_layers % model.moe_every:
        whole = max(1, model.num_layers // model.moe_every) * model.moe_every
        raise UserError(
            f"hardware.scan=true takes model.moe_every={model.moe_every} layers a turn, which does "
            f"not divide model.num_layers={model.num_layers}; try {whole}, or hardware.scan=false"
        )


LOGITS_ON_DEVICE = 2**28  # at once; 1 GB in float32


def loss_pieces(config: RunConfig) -> int:
    """In how many pieces a program of static shapes takes the logits of a step: a divisor of the
    sequence, as few as keep one piece of one device small."""
    shards, length = config.hardware.shards, config.training.sequence_length
    logits = config.training.tokens_per_step * config.model.vocab_size
    held = logits / (shards("batch") * shards("vocab"))
    divisors = [n for n in range(1, length + 1) if length % n == 0]
    return next((n for n in divisors if held / n <= LOGITS_ON_DEVICE), length)
