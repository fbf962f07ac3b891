"""What the name of a parameter decides: its initial values, weight decay, and its layout on a mesh.

A name starts with the parameter's kind and ends in the letters of its axes: `w_in_EMH` is a weight
of experts by width by hidden units. KINDS gives each kind its initial values and weight decay.
LETTERS gives each axis a logical name, to which the `rules` of a hardware file give a mesh axis.
Model, optimizers and engines read these tables, and so does the plan, which has no torch.
"""

from typing import Literal, NamedTuple

from glam.config import HardwareConfig, ModelConfig, RunConfig, check_divisible
from glam.config._checks import divisors
from glam.errors import UserError

# Letter -> logical axis. N: heads; A: heads times d_head, split by whole heads. R: buckets.
LETTERS: dict[str, str | None] = {
    "V": "vocab",
    "M": "embed",
    "A": "heads",
    "N": "heads",
    "H": "hidden",
    "E": "experts",
    "R": None,
}


class Kind(NamedTuple):
    """How a kind of parameter starts and is trained. Normal values have standard deviation
    `gain` / sqrt(n), where n is the size of axis `fan_in` (of one expert's matrix)."""

    initial: Literal["normal", "zeros", "ones"]
    decays: bool  # whether weight decay applies: to matrices alone
    fan_in: int = 0
    gain: float = 1.0


# By the first part of a parameter's own name; a whole name comes first.
KINDS = {
    "w": Kind("normal", decays=True),
    "bias": Kind("zeros", decays=False),  # the position bias too
    "scale": Kind("ones", decays=False),
    # Tied to the output softmax: unit logits there, unit inputs after the scaling by sqrt(M).
    "w_VM": Kind("normal", decays=True, fan_in=1),
    # The router's logits start small, so that every expert's gate starts near 1 / E.
    "w_ME": Kind("normal", decays=True, gain=0.1),
}


def kind(name: str) -> Kind:
    """The kind of the parameter with that name in the model. Raises KeyError for a name that the
    table does not know: a new kind needs a row."""
    own = name.rpartition(".")[2]
    return KINDS.get(own) or KINDS[own.partition("_")[0]]


def letters(name: str) -> str:
    """The axes of the parameter with that name: `EMH` of `layers.1.ffn.experts.w_in_EMH`."""
    return name.rpartition("_")[2]


class Parameter(NamedTuple):
    """A parameter, and how many layers have one like it."""

    name: str  # as in the model, without the layer
    part: str  # attention | feed_forward | experts | gate | embedding | norms
    shape: tuple[int, ...]
    layers: int

    @property
    def letters(self) -> str:
        return letters(self.name)

    @property
    def learns(self) -> bool:
        """Whether it has a gradient, and with it state of the optimizer."""
        return self.name != OF_CHOICE


def parameters(model: ModelConfig) -> list[Parameter]:
    """Every parameter of the built model, in its order within a layer."""
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
            *([Parameter(OF_CHOICE, "gate", (E,), moe)] if model.router.moves_bias else []),
            Parameter("ffn.experts.w_in_EMH", "experts", (E, M, H), moe),
            Parameter("ffn.experts.w_out_EHM", "experts", (E, H, M), moe),
        ]
    else:  # the dense twin: one feed-forward of two matrices, `top_k` times as wide
        wide = model.top_k * H
        found.append(Parameter("ffn.w_in_MH", "feed_forward", (M, wide), moe))
        found.append(Parameter("ffn.w_out_HM", "feed_forward", (wide, M), moe))
    found.append(Parameter("norm.scale_M", "norms", (M,), 2 * layers + 1))
    return [parameter for parameter in found if parameter.layers]


_INPUTS = ("query", "key", "value")
OF_CHOICE = "ffn.router.bias_of_choice_E"  # has no gradient: no optimizer sees it


def partition(letters: str, hardware: HardwareConfig) -> tuple[str | None, ...]:
    """The mesh axis that splits each axis, None for an unsplit one. A mesh axis splits one axis of
    a parameter, the first whose rule names it; vectors are never split."""
    if len(letters) < 2:
        return (None,) * len(letters)
    taken: list[str | None] = []
    for letter in letters:
        axis = hardware.rules.get(LETTERS[letter] or "")
        taken.append(axis if axis not in taken else None)
    return tuple(taken)


def local_shape(parameter: Parameter, hardware: HardwareConfig) -> tuple[float, ...]:
    """The shape of the part that one device holds."""
    axes = partition(parameter.letters, hardware)
    return tuple(
        size / (hardware.mesh[axis] if axis else 1)
        for size, axis in zip(parameter.shape, axes, strict=True)
    )


def check_divides(config: RunConfig) -> None:
    """Raises UserError for a mesh whose axes do not divide what they split, and for layers that
    `hardware.scan` cannot loop over."""
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
    """`hardware.scan` loops over groups of `moe_every` layers, which end with an MoE layer."""
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
    """In how many pieces a program of static shapes computes the logits of a step: the smallest
    divisor of the sequence length with at most LOGITS_ON_DEVICE logits at once on a device."""
    shards, length = config.hardware.shards, config.training.sequence_length
    logits = config.training.tokens_per_step * config.model.vocab_size
    held = logits / (shards("batch") * shards("vocab"))
    return next((n for n in divisors(length) if held / n <= LOGITS_ON_DEVICE), length)
