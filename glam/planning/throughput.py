"""How far a machine gets in an hour: measured where it was calibrated, else modelled."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from glam.config import RunConfig
from glam.machine.resources import Resources
from glam.runs.identity import fingerprint

# FLOP/s in training: half of the matrix product's peak measured on a Zen 4 core (float32 87, with
# AVX512_bf16 200 GFLOP/s); a third of an A100's tensor cores; half of an M2's GPU. Good to a factor
# of two, which a plan can use.
FLOPS_PER_CORE = {"float32": 40e9, "bfloat16": 90e9}
FLOPS_PER_DEVICE = {"cuda": 100e12, "mps": 1.5e12}
BACKWARD = 3  # forward once, backward twice
# Raised when the program becomes faster: a pace that was kept before is no longer its own.
GENERATION = 2


class Throughput(NamedTuple):
    tokens_per_second: float
    source: str


def flops_per_second(resources: Resources) -> float:
    device = FLOPS_PER_DEVICE.get(resources.device)
    return device or resources.threads * FLOPS_PER_CORE[resources.precision]


def tokens_per_hour(config: RunConfig, resources: Resources) -> float:
    """Trained on, backward included; modelled."""
    passes = BACKWARD + (1 if config.training.rematerialize else 0)
    return 3600 * flops_per_second(resources) / (passes * config.flops_per_token)


def local_throughput(config: RunConfig, resources: Resources) -> Throughput:
    """Of this machine: its calibration for this very model and batch, or the model above."""
    if (throughput := calibrated(config, resources)) is not None:
        return Throughput(throughput, "calibrated on this machine")
    speed = flops_per_second(resources) / 1e9
    modelled = f"modelled at {speed:,.0f} GFLOP/s; task.calibrate=true measures"
    return Throughput(tokens_per_hour(config, resources) / 3600, modelled)


def calibrated(config: RunConfig, resources: Resources) -> float | None:
    """Tokens per second, where this machine was calibrated for the run."""
    try:
        found: dict[str, Any] = json.loads(calibration_file(config, resources).read_text())
        return float(found["tokens_per_second"])
    except (OSError, ValueError, KeyError):
        return None


def calibration_file(config: RunConfig, resources: Resources) -> Path:
    return config.cache_path / "pace" / f"{throughput_key(config, resources)}-{GENERATION}.json"


def throughput_key(config: RunConfig, resources: Resources) -> str:
    """What determines a result determines its pace, but for what it is made of and how much."""
    default = RunConfig()
    training = replace(config.training, tokens=default.training.tokens, seconds=None)
    alike = replace(config, training=training, seed=0, data=default.data, schedule=default.schedule)
    return fingerprint(alike, resources)[:16]
