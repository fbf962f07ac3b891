"""Tokens per second of training on this machine: calibrated where it was timed, else modelled."""

import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Le
from typing_extensions import TypedDict

from glam.config import RunConfig, TrainingConfig
from glam.files import read_json_if_there, strict
from glam.kernels.instruction_sets import OFF, ON, asked
from glam.machine.peaks import BACKWARD
from glam.machine.processor import processor
from glam.machine.resources import Resources, device_name
from glam.runs.identity import code_fingerprint, fingerprint
from glam.units import in_message, si

# FLOP/s in training: half of the matrix product's peak measured on a Zen 4 core (float32 87, with
# AVX512_bf16 200 GFLOP/s); a third of an A100's tensor cores; half of an M2's GPU. Good to a factor
# of two, which a plan can use.
FLOPS_PER_CORE = {"float32": 40e9, "bfloat16": 90e9}
FLOPS_PER_DEVICE = {"cuda": 100e12, "mps": 1.5e12}
# Of the training section, what a step's time depends on.
STEP_SHAPE = (
    *("batch_size", "sequence_length", "rematerialize", "update_in_backward", "accumulate"),
    "float8_experts",
)

# Calibrated: timed here. Under load: timed here while other processes used the cores. Modelled:
# from the FLOP/s above. Stated: by the file of the hardware.
Kind = Literal["calibrated", "under load", "modelled", "stated"]


class Throughput(NamedTuple):
    """A speed of training, and where the number is from."""

    tokens_per_second: float
    source: str  # for people: where the number is from, with its date where it was timed
    kind: Kind


@strict(unknown="allow")
class Calibration(TypedDict):
    """A throughput that was timed, as it is kept in the cache."""

    tokens_per_second: Annotated[float, Ge(1e-9), Le(1e15)]
    date: str


def flops_per_second(resources: Resources) -> float:
    """Modelled, in training."""
    device = FLOPS_PER_DEVICE.get(resources.device)
    return device or resources.threads * FLOPS_PER_CORE[resources.precision]


def modelled_at(resources: Resources) -> str:
    """`modelled at 90.0 GFLOP/s`: where a throughput that was not timed is from."""
    return f"modelled at {in_message(si(flops_per_second(resources), 'FLOP/s'))}"


def tokens_per_hour(config: RunConfig, resources: Resources) -> float:
    """Tokens trained on in an hour, backward pass included; modelled."""
    passes = BACKWARD + (1 if config.training.rematerialize else 0)
    return 3600 * flops_per_second(resources) / (passes * config.flops_per_token)


def local_throughput(config: RunConfig, resources: Resources) -> Throughput:
    """Of this machine: its calibration for this model and batch, or the model above."""
    if (found := calibrated(config, resources)) is not None:
        return found
    source = f"{modelled_at(resources)}; task.calibrate=true measures"
    return Throughput(tokens_per_hour(config, resources) / 3600, source, "modelled")


def calibrated(config: RunConfig, resources: Resources) -> Throughput | None:
    """What this machine was timed at for the run's model and batch; None where it was not. Raises
    UserError for a file that says something else."""
    file = calibration_file(config, resources)
    found = read_json_if_there(file, Calibration, way_out="remove it, and it is timed again")
    if found is None:
        return None
    source = f"calibrated on this machine, {found['date'][:10]}"
    return Throughput(found["tokens_per_second"], source, "calibrated")


def calibration_file(config: RunConfig, resources: Resources) -> Path:
    """Its name has all that the throughput depends on, and nothing else."""
    depends_on = {"workload": workload_key(config, resources), **machine_key(resources)}
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    return config.cache_path / "throughput" / f"{key}.json"


def workload_key(config: RunConfig, resources: Resources) -> str:
    """Names what a step computes: model, batch, kind of optimizer, precision and threads; neither
    the learning rate nor seed, text, schedule or length of training."""
    default, training = RunConfig(), config.training
    shape = {name: getattr(training, name) for name in STEP_SHAPE}
    alike = replace(
        config,
        training=TrainingConfig(**shape),
        optimizer=type(config.optimizer)(),  # type: ignore[call-arg]  # each kind has defaults
        schedule=default.schedule,
        data=default.data,
        seed=0,
    )
    return fingerprint(alike, resources)[:16]


def machine_key(resources: Resources) -> dict[str, Any]:
    """What a throughput depends on besides the workload: device, processor, kernels and code."""
    return {
        "device": device_name(resources.device),
        "processor": list(processor()),
        "kernels": _kernels(),
        "torch": importlib.metadata.version("torch"),
        "code": _code(),
    }


def _kernels() -> str:
    """Whether the C kernels serve, without importing them: they import torch."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    value = asked()
    if value == OFF or compiler is None:
        return OFF
    return str(compiler) if value == ON else f"{compiler} for {value}"


@functools.cache
def _code() -> str:
    return code_fingerprint()
