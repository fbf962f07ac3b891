"""Refuses a run that does not fit this machine's memory or disk, before anything is allocated."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from glam.config import RunConfig
from glam.errors import UserError
from glam.machine.resources import Resources
from glam.planning.memory import MemoryEstimate, checkpoint_bytes, memory
from glam.planning.paper import published
from glam.planning.suggest import Search, Suggestion
from glam.planning.throughput import modelled_at
from glam.units import byte_size, count


def check_fits(config: RunConfig, resources: Resources, overrides: Sequence[str]) -> None:
    """Raises UserError when the run needs more memory than there is, or its checkpoints more
    disk. The message about memory has several lines: a first line that is complete by itself, a
    table of the bytes needed, and commands that fit, which extend `overrides`."""
    needed = memory(config, resources.precision)
    free = free_disk(config.runs_path)
    if needed.total > resources.memory_bytes:
        suggestions = Search(config, resources, overrides, free).run()
        raise UserError("\n".join(_refusal(config, resources, needed, suggestions, overrides)))
    on_disk = checkpoint_bytes(config)
    if on_disk > free:
        raise UserError(
            f"runs_dir={config.runs_dir} has {byte_size(free)} free and the checkpoints of "
            f"model={config.model.name} need {byte_size(on_disk)}; name a folder on a larger disk "
            f"with runs_dir=..."
        )


def free_disk(path: Path) -> int:
    """Free bytes of the file system that `path` is or will be on."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _refusal(
    config: RunConfig,
    resources: Resources,
    needed: MemoryEstimate,
    suggestions: Sequence[Suggestion],
    overrides: Sequence[str],
) -> list[str]:
    first = (
        f"model={config.model.name} needs {byte_size(needed.total)} of memory with "
        f"training.batch_size={config.training.batch_size} and this machine has "
        f"{byte_size(resources.memory_bytes)}; "
    )
    table = ["", *_table(config, resources, needed), ""]
    if not suggestions:
        return [first + "no similar model fits: choose a smaller model, such as glam_tiny", *table]
    hour = f"with tokens for about an hour, {modelled_at(resources)}"
    return [
        first + "commands that fit are below",
        *table,
        f"These fit here, the nearest first, {hour}:",
        *(line for s in suggestions for line in _offer(s, resources, overrides)),
    ]


def _offer(suggestion: Suggestion, resources: Resources, overrides: Sequence[str]) -> list[str]:
    model = suggestion.config.model
    needed = byte_size(memory(suggestion.config, resources.precision).total)
    head = f"  {suggestion.kind}: {count(model.num_params)} parameters, {needed}"
    return [head, f"    {suggestion.line(overrides)}"]


def _table(config: RunConfig, resources: Resources, needed: MemoryEstimate) -> list[str]:
    model = config.model
    paper = published(model)
    rows = [
        _row("parameters", count(model.num_params), paper and count(paper.total)),
        _row(
            "active per token",
            count(model.num_active_params),
            paper and count(paper.active),
        ),
        *(_row(name, byte_size(size)) for name, size in needed._asdict().items()),
        _row("total", byte_size(needed.total)),
        _row("this machine", byte_size(resources.memory_bytes)),
    ]
    beside = f"the paper's {paper.label}" if paper else None
    head = [_row("", "here", beside)]
    notes = ["  parameters are without embeddings, as the paper counts"]
    if paper and paper.note:
        notes.append(f"  the paper's {count(paper.total)}: {paper.note}")
    return [*head, *rows, *notes]


def _row(name: str, here: str, paper: str | None = None) -> str:
    return f"  {name:<18}{here:>12}" + (f"  {paper:>18}" if paper else "")
