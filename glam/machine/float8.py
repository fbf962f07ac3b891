"""Whether experts can multiply in FP8 here (`training.float8_experts`)."""

from glam.config import RunConfig
from glam.errors import UserError
from glam.machine.processor import first_gpu

FIRST = 90  # compute capability, times 10, of the first GPUs that torch multiplies groups of FP8 on
NUMBERS = 16  # a row of FP8 is a multiple of so many bytes


def check_float8(config: RunConfig, device: str) -> None:
    """Raises UserError where they cannot, with the reason."""
    if (why := _why_not(config, device)) is not None:
        raise UserError(f"training.float8_experts=true: {why}; leave it out")


def _why_not(config: RunConfig, device: str) -> str | None:
    model = config.model
    if not model.is_sparse:
        return f"model={model.name} is dense: it has no experts"
    if device != "cuda":
        return f"the device {device} does not multiply FP8"
    if config.hardware.is_cluster:
        return "it is for one device"
    if model.dispatcher != "grouped":
        return f"it is of model.dispatcher=grouped, not {model.dispatcher}"
    if model.d_model % NUMBERS or model.d_ff % NUMBERS:
        sizes = f"model.d_model={model.d_model}, model.d_ff={model.d_ff}"
        return f"rows of FP8 are multiples of {NUMBERS} numbers, and {sizes}"
    card = first_gpu()
    [capability] = card.instruction_sets
    if int(capability.removeprefix("sm_")) < FIRST:
        return f"{card.name} ({capability}) is older than Hopper (sm_{FIRST})"
    return None
