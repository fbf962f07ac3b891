"""A budget of seconds, as the tokens that this machine trains on in them: a run is told by its
tokens, and is the same wherever it goes on."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from glam.config import ROOT, RunConfig
from glam.errors import UserError
from glam.log import log
from glam.machine.resources import Resources
from glam.planning.throughput import calibrated, throughput_key
from glam.runs.folder import check_writable

SECONDS, TOKENS = "training.seconds", "training.tokens"
TOLERANCE = 0.15  # of the time asked for


class Budgeted(NamedTuple):
    config: RunConfig
    overrides: list[str]
    throughput: dict[str, float]  # tokens per second, by what determines them


def time_to_token_budget(
    config: RunConfig,
    resources: Resources,
    overrides: Sequence[str],
    known: Mapping[str, float] | None = None,
) -> Budgeted:
    """With `training.tokens`, in whole steps, in the place of `training.seconds`. The pace is
    `known`, or found in the cache, or timed in a process of its own (some seconds). Call
    `check_time_budget` first."""
    seconds = config.training.seconds
    if seconds is None:
        return Budgeted(config, list(overrides), {})
    key = throughput_key(config, resources)
    throughput = (known or {}).get(key) or calibrated(config, resources)
    if throughput is None:
        check_writable(config)
        log.info(f"{SECONDS}: timing a few steps of model={config.model.name}")
        _time(overrides, resources)
        throughput = calibrated(config, resources)
        assert throughput is not None
    step = config.training.tokens_per_step
    tokens = max(1, round(seconds * throughput / step)) * step
    words = [word for word in overrides if _key(word) != SECONDS]
    return Budgeted(
        replace(config, training=replace(config.training, tokens=tokens, seconds=None)),
        [*words, f"{TOKENS}={tokens}", f"{SECONDS}=null"],
        {key: throughput},
    )


def check_time_budget(config: RunConfig, overrides: Sequence[str]) -> None:
    """Raises UserError for budgets of both kinds, and for other than one device of this machine."""
    seconds = config.training.seconds
    if seconds is None:
        return
    typed = next((word for word in overrides if _key(word) == TOKENS), None)
    if typed is not None:
        raise UserError(f"{typed} and {SECONDS}={seconds:g} are two budgets; leave one out")
    if config.hardware.is_described:
        raise UserError(
            f"{SECONDS}={seconds:g} is timed on one device of this machine, which hardware="
            f"{config.hardware.name} is not; set {TOKENS} in its place"
        )


def time_budget_warning(seconds: float, summary: Mapping[str, Any] | None) -> str | None:
    """In words, where training took another time than it was given tokens for."""
    took = (summary or {}).get("train_seconds")
    if not took or abs(took / seconds - 1) <= TOLERANCE:
        return None
    return (
        f"trained for {took:,.1f} s where {SECONDS}={seconds:g}: the pace was another than when it "
        f"was timed; with cache/pace emptied, a new run or study is timed anew"
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
        raise UserError(f"{SECONDS}: its pace could not be timed: {said[-1].removeprefix('error: ')}")


def _key(word: str) -> str:
    return word.lstrip("+").split("=")[0]
