"""What of a model `torch.compile` makes a program of on this machine (`hardware.compile`)."""

import importlib.util
from functools import cache
from typing import Literal

from glam.config import RunConfig
from glam.errors import UserError
from glam.log import log

Compiled = Literal["off", "attention", "layers"]

LEAST_HEAD = 16  # numbers of a head that FlexAttention's kernels take
GROUPED_BYTES = 16  # grouped_mm takes rows of a multiple of so many bytes
BFLOAT16 = 2  # bytes


def what_is_compiled(config: RunConfig, device: str, precision: str) -> Compiled:
    """As typed, or the most that this model and device allow. Raises UserError where what was typed
    cannot be."""
    typed = config.hardware.compile
    if typed == "off" or (typed == "auto" and device != "cuda"):
        return "off"
    if (why := _why_nothing(config, device)) is not None:
        _refuse(config, typed, why, "off")
        return "off"
    if typed == "attention":
        return "attention"
    if (why := _why_no_layers(config, precision)) is not None:
        _refuse(config, typed, why, "attention")
        return "attention"
    return "layers"


def _refuse(config: RunConfig, typed: str, why: str, way_out: str) -> None:
    """Raises UserError for what was typed; says what `auto` does without."""
    if typed != "auto":
        raise UserError(f"hardware.compile={typed}: {why}; take hardware.compile={way_out}")
    _say(f"hardware={config.hardware.name} compiles {_WITHOUT[way_out]}: {why}")


@cache  # a grid asks for every cell
def _say(line: str) -> None:
    log.warning(line)


_WITHOUT = {"off": "nothing", "attention": "attention alone"}


def _why_nothing(config: RunConfig, device: str) -> str | None:
    model = config.model
    if device != "cuda":
        return f"compiled attention has no backward pass on the device {device}"
    if config.hardware.is_cluster:
        return "several processes train one model, whose split weights were never compiled"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed, which torch's wheels for CUDA bring"
    if model.head_size < LEAST_HEAD:
        return f"a head of {model.head_size} numbers is narrower than {LEAST_HEAD}"
    return None


def _why_no_layers(config: RunConfig, precision: str) -> str | None:
    """Of experts: the products of dense layers have no such limits."""
    model = config.model
    if not model.is_sparse:
        return None
    if precision != "bfloat16":
        return f"torch compiles grouped_mm in bfloat16 alone, and the precision is {precision}"
    if type(model.dispatcher_config).__module__ != "glam.config.dispatchers.built_in":
        return f"model.dispatcher={model.dispatcher} is none that is known to compile in one piece"
    if any(BFLOAT16 * size % GROUPED_BYTES for size in (model.d_model, model.d_ff)):
        return (
            f"grouped_mm takes rows of multiples of {GROUPED_BYTES // BFLOAT16} numbers, and "
            f"model.d_model={model.d_model}, model.d_ff={model.d_ff}"
        )
    return None
