"""What a run left behind, as hashes: two runs are the same run where all of them are equal."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from glam.runs.checkpoints import newest_checkpoint
from glam.training.checkpoint import FolderCheckpointIO

# By the clock, which no two runs share; the samples are as many tokens as ten seconds allow.
CLOCK = ("train_seconds", "row_seconds", "joules", "tokens_per_second", "energy", "date", "time")
OF_THE_CLOCK = (
    *CLOCK,
    "joules_per_million_tokens",
    "joules_per_nat",
    "seconds",
    "seconds_lost",
    "lost_seconds",
    "git",
    "throughputs",
    "sha256",  # of a summary, seconds included
)
FILES = ("data.json", "routing.json", "layout.json", "tokenizer.vocab")
PARTS = {"optimizer_states": "optimizer and router", "training": "counters and sampler"}


def digests(runs: Path) -> dict[str, str]:
    """By run and part. A grid has several runs, and a table."""
    found: dict[str, str] = {}
    for run in sorted(file.parent for file in runs.glob("*/config.yaml")):
        found |= {f"{run.name} {part}": sha for part, sha in _digests_of(run)}
    for table in sorted(runs.glob("studies/*/study.csv")):
        found[f"table {table.parent.name}"] = _sha(_rows(table))
    return found


def _digests_of(run: Path) -> Iterator[tuple[str, str]]:
    saved = newest_checkpoint(run / "checkpoints")
    if saved is None:
        yield "weights", "none"
        return
    whole = FolderCheckpointIO({}).load_checkpoint(saved.path)
    yield "weights", _sha(whole["state_dict"])
    for name, part in PARTS.items():
        yield part, _sha(whole[name])
    rows = _rows(run / "metrics.csv")
    steps = [int(row["step"]) for row in rows]
    yield "rows", _sha(rows) if steps == sorted(set(steps)) else f"rows twice: {steps}"
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary = None
    yield "summary", _sha(summary)
    for name in FILES:
        if (run / name).is_file():
            yield name, hashlib.sha256((run / name).read_bytes()).hexdigest()


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as lines:
        return [
            {name: value for name, value in row.items() if not _is_of_the_clock(name)}
            for row in csv.DictReader(lines)
        ]


def _is_of_the_clock(name: str) -> bool:
    return any(part in OF_THE_CLOCK for part in (name, *name.replace(".", "/").split("/")))


def _sha(value: Any) -> str:
    digest = hashlib.sha256()
    for line in _lines(value, ""):
        digest.update(line)
    return digest.hexdigest()


def _lines(value: Any, place: str) -> Iterator[bytes]:
    """Every value with its place, in an order of its own; nothing of the clock."""
    if isinstance(value, Mapping):
        for name in sorted(value, key=str):
            if not _is_of_the_clock(str(name)):
                # The checkpoints to go back to, by step, with the seconds of training until then.
                of_name = sorted(value[name]) if name == "anchors" else value[name]
                yield from _lines(of_name, f"{place}/{name}")
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from _lines(one, f"{place}/{number}")
    elif isinstance(value, torch.Tensor):
        yield f"{place} {value.dtype} {list(value.shape)} ".encode()
        yield (
            value.detach()
            .contiguous()
            .view(torch.uint8 if value.dim() else value.dtype)
            .numpy()
            .tobytes()
        )
    else:
        yield f"{place} {value!r}\n".encode()
