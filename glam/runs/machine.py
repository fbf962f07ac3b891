"""What a run is computed on: the processor and the kernels. They decide its last digits, beside
configuration, code and data, since each has its own order of sums."""

import os
from collections.abc import Sequence
from typing import Any

from glam.kernels.instruction_sets import OURS
from glam.machine.processor import first_gpu, processor
from glam.machine.resources import Resources

Machine = dict[str, Any]
# What of it decides digits; `GLAM_KERNELS` says only why the kernels are what they are.
DECIDES = ("processor", "instruction_sets", "kernels")


def machine_of(resources: Resources) -> Machine:
    """For `summary.json`, checkpoints and W&B; nothing in it names the host. On a CPU it
    builds the kernels where no earlier process has."""
    found = first_gpu() if resources.device == "cuda" else processor()
    return {
        "processor": found.name,
        "instruction_sets": list(found.instruction_sets),
        "kernels": _kernels(resources),
        "GLAM_KERNELS": os.environ.get("GLAM_KERNELS", "on"),
    }


def _kernels(resources: Resources) -> str:
    from glam.kernels.kernel_set import TORCH, kernel_set

    if resources.device == "cpu":
        return kernel_set(resources.precision)
    if resources.compiled != "off":
        return f"{TORCH}, {resources.compiled} compiled"
    return "XLA" if resources.device in ("xla", "tpu") else TORCH


def deciding(machine: Machine) -> tuple[Any, ...]:
    """Equal for machines that compute the same digits."""
    return tuple(str(machine.get(name)) for name in DECIDES)


def continued(before: Machine | None, now: Machine) -> Machine:
    """Of a run begun on `before` (None where its checkpoint does not say) that goes on here:
    `earlier` lists, in order, the machines it left."""
    if before is None:
        return now
    earlier = segments(before)
    if deciding(earlier[-1]) == deciding(now):
        earlier.pop()
    return {**now, "earlier": earlier} if earlier else now


def segments(machine: Machine) -> list[Machine]:
    """One machine, or all that a run was trained on, in order."""
    last = {name: value for name, value in machine.items() if name != "earlier"}
    return [*machine.get("earlier", ()), last]


def in_words(machines: Sequence[Machine]) -> list[str]:
    """Processor and kernels of each; instruction sets too where these alone tell two apart."""
    words = [f"{one.get('processor')} ({_served(one)})" for one in machines]
    if len(set(words)) == len({deciding(one) for one in machines}):
        return words
    sets = [
        " ".join(one.get("instruction_sets") or ["no known instruction set"]) for one in machines
    ]
    return [f"{word} with {names}" for word, names in zip(words, sets, strict=True)]


def _served(machine: Machine) -> str:
    kernels = machine.get("kernels")
    return f"{kernels} kernels" if kernels in OURS else str(kernels)
