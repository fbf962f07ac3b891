"""A budget of seconds, as the tokens that this machine trains on in them: a run is told by its
tokens, and is the same wherever it goes on."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from glam.accounting.pace import calibrated, pace_key
from glam.config import ROOT, RunConfig
from glam.errors import UserError
from glam.resources import Resources

SECONDS, TOKENS = "training.seconds", "training.tokens"


class Budgeted(NamedTuple):
    config: RunConfig
    overrides: list[str]
    pace: dict[str, float]  # tokens per second, by what determines them


def in_tokens(
    config: RunConfig,
    resources: Resources,
    overrides: Sequence[str],
    known: Mapping[str, float] | None = None,
) -> Budgeted:
    """With `training.tokens`, in whole steps, in the place of `training.seconds`. The pace is
    `known`, or found in the cache, or timed in a process of its own (some seconds).

    Raises UserError for a budget of both kinds and for devices that are not of this machine."""
    seconds = config.training.seconds
    if seconds is None:
        return Budgeted(config, list(overrides), {})
    typed = next((word for word in overrides if _key(word) == TOKENS), None)
    if typed is not None:
        raise UserError(f"{typed} and {SECONDS}={seconds:g} are two budgets; leave one out")
    if config.hardware.is_described:
        raise UserError(
            f"{SECONDS}={seconds:g} is timed on this machine, and hardware={config.hardware.name} "
            f"describes devices that may be elsewhere; set {TOKENS}"
        )
    key = pace_key(config, resources)
    pace = (known or {}).get(key) or calibrated(config, resources)
    if pace is None:
        _time(overrides, resources)
        pace = calibrated(config, resources)
        assert pace is not None
    step = config.training.tokens_per_step
    tokens = max(1, round(seconds * pace / step)) * step
    words = [word for word in overrides if _key(word) != SECONDS]
    return Budgeted(
        replace(config, training=replace(config.training, tokens=tokens, seconds=None)),
        [*words, f"{TOKENS}={tokens}", f"{SECONDS}=null"],
        {key: pace},
    )


def _time(overrides: Sequence[str], resources: Resources) -> None:
    """Steps of the same model, which leave their pace in the cache."""
    mine = [word for word in overrides if _key(word).split(".")[0] not in ("task", "study")]
    words = [
        *(word for word in mine if _key(word) != SECONDS),
        *(f"hardware.threads={resources.threads}", f"hardware.precision={resources.precision}"),
        *(f"{SECONDS}=null", "task=plan", "task.calibrate=true", "task.format=csv"),
        "study.cell=calibrated",  # an experiment's cell runs without -m
    ]
    line = [sys.executable, str(ROOT / "run.py"), *words]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or ["the process was stopped"]
        raise UserError(f"{SECONDS}: its pace could not be timed: {said[-1]}")


def _key(word: str) -> str:
    return word.lstrip("+").split("=")[0]
