"""What makes two runs the same run: a hash of what determines the result, and nothing else."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from glam.config import AdamWConfig, EmbeddedCorpusConfig, RunConfig
from glam.machine.resources import Device, Resources

DETERMINES_THE_RESULT = ("model", "data", "optimizer", "schedule", "training", "seed")
MOST_THREADS = 1024  # of a run, when its id is looked for

PACKAGE = Path(__file__).parents[1]
# Whose source decides digits. Of `machine`, only how rows are dealt to processes does: what it
# finds of threads, precision and device is part of the run's id, and its counters only observe.
# The packages above these hand on a configuration, or write down what came out.
COMPUTES = (
    *("config", "kernels", "model", "data", "training", "engines", "evaluation"),
    "machine/processes.py",
)
SOURCES = (".py", ".c", ".h", ".inc")


def run_id(config: RunConfig, resources: Resources) -> str:
    """Ten hexadecimal digits, the same wherever and whenever the same experiment is asked for."""
    return fingerprint(config, resources)[:10]


def fingerprint(config: RunConfig, resources: Resources) -> str:
    """SHA-256 of the canonical JSON of the fields that determine the result and differ from their
    first default: neither a field that is added nor another default renames a run."""
    return _digest(_chosen(config), resources.precision, resources.threads, resources.device)


def could_be(config: RunConfig, identity: str) -> bool:
    """Whether `identity` begins the fingerprint of `config` on any machine: the resources that a
    run was given are part of it, and a run that has no summary says nowhere what they were."""
    chosen, hardware = _chosen(config), config.hardware
    precisions = ("float32", "bfloat16") if hardware.precision == "auto" else (hardware.precision,)
    threads = range(1, MOST_THREADS + 1) if hardware.threads is None else (hardware.threads,)
    return any(
        _digest(chosen, *resources).startswith(identity)
        for resources in itertools.product(precisions, threads, get_args(Device))
    )


def _chosen(config: RunConfig) -> dict[str, Any]:
    default = _left_out()
    parts = {name: getattr(config, name) for name in DETERMINES_THE_RESULT}
    parts["optimizer"] = config.optimizer_as_built  # by the number, wherever it came from
    chosen = {name: _differing(part, getattr(default, name)) for name, part in parts.items()}
    if config.data.contamination.remove:  # what overlaps with these items is not trained on
        chosen["items"] = [config.evaluation.name, config.evaluation.tasks]
    return chosen


def _left_out() -> RunConfig:
    """What an id leaves out: the defaults, but those of before where one has changed, so that no
    run of today is taken for one of then."""
    default = RunConfig(optimizer=AdamWConfig(learning_rate=0.012))
    assert isinstance(default.data.corpus, EmbeddedCorpusConfig)
    default.data.corpus.sources = ["speeches", "scripture", "wikipedia", "reviews", "tweets"]
    return default


def _digest(chosen: dict[str, Any], precision: str, threads: int, device: str) -> str:
    whole = {**chosen, "precision": precision, "threads": threads}  # sums are ordered by thread
    if device != "cpu":
        whole["device"] = device
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


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
        mine, usual = getattr(value, field.name), getattr(default, field.name)
        if field.metadata.get("result", True) and mine != usual:
            part = _differing(mine, usual)
            if part != {}:  # null is a value like others where the default is another
                chosen[field.name] = part
    return chosen


def code_fingerprint() -> str:
    """16 hexadecimal digits of the source that computes. A resume across a change of it is refused,
    a finished run says that its code has changed."""
    return _fingerprint_of(PACKAGE)


@functools.cache  # what the process began with, also where a file is edited while it runs
def _fingerprint_of(package: Path) -> str:
    """The same wherever the package lies and in whatever order its files are found."""
    digest = hashlib.sha256()
    for name, file in sorted((f.relative_to(package).as_posix(), f) for f in _sources(package)):
        content = file.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _sources(package: Path) -> Iterator[Path]:
    for name in COMPUTES:
        path = package / name
        found = path.rglob("*") if path.is_dir() else [path]
        yield from (file for file in found if file.suffix in SOURCES)
