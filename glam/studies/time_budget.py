"""A budget of seconds as a budget of tokens, by this machine's throughput. A run's identity has
its tokens, so that it is the same run on whatever machine it is resumed."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from glam.config import ROOT, RunConfig
from glam.errors import UserError
from glam.log import log
from glam.machine.resources import Resources
from glam.planning.throughput import calibrated, workload_key
from glam.runs.folder import check_writable

SECONDS, TOKENS = "training.seconds", "training.tokens"
TOKENS_EACH = "training.tokens_per_parameter"
TOLERANCE = 0.15  # of the time asked for


class Budgeted(NamedTuple):
    """A configuration and its command line in tokens, and the throughput that they are from."""

    config: RunConfig
    overrides: list[str]
    throughput: dict[str, float]  # tokens per second, by workload_key


def time_to_token_budget(
    config: RunConfig,
    resources: Resources,
    overrides: Sequence[str],
    known: Mapping[str, float] | None = None,
) -> Budgeted:
    """Replaces `training.seconds` by `training.tokens`, in whole steps. The throughput (tokens per
    second, by `workload_key`) is `known`, or was calibrated before, or is timed in a process of its
    own, which takes some seconds. Call `check_budget` first."""
    seconds = config.training.seconds
    if seconds is None:
        return Budgeted(config, list(overrides), {})
    key = workload_key(config, resources)
    throughput = (known or {}).get(key) or _local_tokens_per_second(config, resources, overrides)
    step = config.training.tokens_per_step
    tokens = max(1, round(seconds * throughput / step)) * step
    words = [word for word in overrides if _key(word) != SECONDS]
    return Budgeted(
        replace(config, training=replace(config.training, tokens=tokens, seconds=None)),
        [*words, f"{TOKENS}={tokens}", f"{SECONDS}=null"],
        {key: throughput},
    )


def _local_tokens_per_second(
    config: RunConfig, resources: Resources, overrides: Sequence[str]
) -> float:
    if (found := calibrated(config, resources)) is not None:
        return found.tokens_per_second
    check_writable(config, "runs_dir", "cache_dir")
    log.info(f"{SECONDS}: timing a few steps of model={config.model.name}")
    plan = _timed_plan(overrides, resources)
    if plan["throughput_kind"] == "under load":
        log.warning(f"{SECONDS}: {plan['throughput_source']}")
    return float(plan["tokens_per_second"])


def check_budget(config: RunConfig, overrides: Sequence[str]) -> None:
    """Raises UserError where tokens are set beside another budget, and where seconds are set for
    hardware that is not one device of this machine."""
    training = config.training
    seconds, each = training.seconds, training.tokens_per_parameter
    other = (SECONDS, seconds) if seconds is not None else (TOKENS_EACH, each)
    typed = next((word for word in overrides if _key(word) == TOKENS), None)
    if typed is not None and other[1] is not None:
        raise UserError(
            f"{typed} and {other[0]}={other[1]:g} are two budgets; leave one out, or set "
            f"{other[0]}=null"
        )
    if seconds is not None and config.hardware.is_described:
        raise UserError(
            f"{SECONDS}={seconds:g} is timed on one device of this machine, which hardware="
            f"{config.hardware.name} is not; set {TOKENS} in its place"
        )


def time_budget_warning(seconds: float, summary: Mapping[str, Any] | None) -> str | None:
    """The warning of a run whose training took longer or shorter than `seconds` by more than
    TOLERANCE; None where it did not."""
    took = (summary or {}).get("train_seconds")
    if not took or abs(took / seconds - 1) <= TOLERANCE:
        return None
    return (
        f"trained for {took:,.1f} s where {SECONDS}={seconds:g}: the throughput was another than "
        f"when it was timed; task=plan task.calibrate=true times it again for new runs"
    )


def _timed_plan(overrides: Sequence[str], resources: Resources) -> dict[str, Any]:
    """The plan of the same model, timed in a process of its own, which keeps its calibration."""
    mine = [word for word in overrides if _key(word).split(".")[0] not in ("task", "study")]
    words = [
        *(word for word in mine if _key(word) != SECONDS),
        *(f"hardware.threads={resources.threads}", f"hardware.precision={resources.precision}"),
        *(f"{SECONDS}=null", "task=plan", "task.calibrate=true", "task.format=json"),
        "study.cell=calibrated",  # an experiment's cell runs without -m
    ]
    line = [sys.executable, str(ROOT / "run.py"), *words]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or ["the process was stopped"]
        reason = said[-1].removeprefix("error: ")
        raise UserError(f"{SECONDS}: steps could not be timed: {reason}")
    return json.loads(ended.stdout)


def _key(word: str) -> str:
    return word.lstrip("+").split("=")[0]
