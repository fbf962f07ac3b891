"""What makes two runs the same run: a hash of what determines the result, and nothing else."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from glam.config import ROOT, RunConfig
from glam.machine.resources import Resources

DETERMINES_THE_RESULT = ("model", "data", "optimizer", "schedule", "training", "seed")

# Packages whose source decides what a run computes.
CODE = ("config", "model", "data", "training", "evaluation")


def run_id(config: RunConfig, resources: Resources) -> str:
    """Ten hexadecimal digits, the same wherever and whenever the same experiment is asked for."""
    return fingerprint(config, resources)[:10]


def fingerprint(config: RunConfig, resources: Resources) -> str:
    """SHA-256 of the canonical JSON of the fields that determine the result and differ from their
    default: a field added later renames no run."""
    default = RunConfig()
    chosen: dict[str, Any] = {
        name: _differing(getattr(config, name), getattr(default, name))
        for name in DETERMINES_THE_RESULT
    }
    chosen["precision"] = resources.precision
    chosen["threads"] = resources.threads  # sums are ordered by thread
    if resources.device != "cpu":
        chosen["device"] = resources.device
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def _differing(value: Any, default: Any) -> Any:
    """What of `value` is not the default; nested configurations keep only what differs."""
    if not dataclasses.is_dataclass(value):
        return None if value == default else value
    chosen: dict[str, Any] = {}
    if type(value) is not type(default):
        # Another choice of the group (adafactor for adamw): named, then compared with its own.
        chosen["name"] = value.name  # type: ignore[attr-defined]
        default = type(value)()  # type: ignore[operator]
    for field in dataclasses.fields(value):
        if field.metadata.get("result", True):
            part = _differing(getattr(value, field.name), getattr(default, field.name))
            if part not in (None, {}):
                chosen[field.name] = part
    return chosen


def code_fingerprint() -> str:
    """Hash of the source that decides results: a resume across a change of it is refused."""
    digest = hashlib.sha256()
    for package in CODE:
        for file in sorted(Path(__file__).parent.joinpath(package).rglob("*.py")):
            digest.update(file.relative_to(ROOT).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
