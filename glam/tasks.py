"""The verbs of the command line, one function each. Heavy imports wait for the work that needs
them: a finished run is skipped, and a refused one refused, before torch is loaded."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from glam.config import RunConfig
from glam.errors import JobFailedError, UserError
from glam.identity import code_fingerprint
from glam.resources import Resources, resolve
from glam.runs import RunFolder
from glam.studies.leash import hold_leash

if TYPE_CHECKING:
    from glam.data import PreparedData


def run_task(config: RunConfig, overrides: list[str]) -> None:
    """Do what `config.task` names; `overrides` is the line as typed, for suggestions."""
    hold_leash()
    tasks: dict[str, Callable[[RunConfig, list[str]], None]] = {
        "train": train,
        "prepare": prepare,
        "evaluate": evaluate,
        "generate": generate,
        "report": report,
    }
    tasks[config.task.name](config, overrides)


def train(config: RunConfig, overrides: list[str]) -> None:
    """Prepare, train, evaluate, report. Skips a finished run, goes on with one cut off."""
    from glam.accounting.preflight import check_fits

    resources = resolve(config)
    run = RunFolder.of(config, resources)
    if not config.rerun and run.summary() is not None:
        return _say_done(config, run)
    check_fits(config, resources, overrides)
    _check_writable(config)
    _pin_threads(resources)
    prepared = _prepared(config)
    if config.rerun and (old := run.move_aside()) is not None:
        print(f"the old run is now {old.name}", file=sys.stderr)
    run.path.mkdir(parents=True, exist_ok=True)
    with run.lock():
        run.failure_file.unlink(missing_ok=True)
        try:
            _train_to_the_end(config, run, resources, prepared)
        except (UserError, JobFailedError):
            raise
        except Exception as error:
            raise _failed(run, error) from error
    return None


def prepare(config: RunConfig, overrides: list[str]) -> None:
    """Text to packed tokens, cached."""
    _check_writable(config)
    _pin_threads(resolve(config))
    prepared = _prepared(config)
    tokens = sum(component.num_tokens for component in prepared.components)
    print(f"{tokens:,} training tokens in {len(prepared.components)} components; ready to train")


def _prepared(config: RunConfig) -> "PreparedData":
    from glam.data import prepare as prepare_data

    return prepare_data(config.data, config.model.vocab_size, config.cache_path)


def _check_writable(config: RunConfig) -> None:
    for key, path in (("runs_dir", config.runs_path), ("cache_dir", config.cache_path)):
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"{key}={getattr(config, key)} cannot be written ({error.strerror}); "
                f"name another folder with {key}=..."
            ) from None


def _pin_threads(resources: Resources) -> None:
    """Before torch is imported: OpenMP reads these once. A waiting thread sleeps instead of
    spinning, which costs little and spares a shared machine."""
    os.environ["OMP_NUM_THREADS"] = str(resources.threads)
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


def _failed(run: RunFolder, error: Exception) -> JobFailedError:
    line = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    trace = "".join(traceback.format_exception(error))
    run.write_json("failure.json", {"error": line, "traceback": trace, "time": now})
    return JobFailedError(f"{run.path.name} failed: {line} (traceback in {run.failure_file})")
