"""The manifest of a checkpoint: what it holds, and the checksums by which that is believed."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import TypedDict

from glam.errors import first_line
from glam.files import check_type, parse_json, strict
from glam.runs.machine import Machine

# 1 (glam 0.1, 0.2): no digest, and optimizer state in `state.pt`. 3: tensors in a grid.
FORMAT, FORMAT_WITHOUT_GRIDS = 3, 2
MANIFEST, STATE, WEIGHTS, OPTIMIZER = (
    "manifest.json",
    "state.pt",
    "model.safetensors",
    "optimizer.safetensors",
)
# `model.safetensors`, or `model-00002-of-00004.safetensors` of several processes.
PART = re.compile(r"(model|optimizer|state)(?:-(\d{5})-of-(\d{5}))?\.(safetensors|pt)")

Status = Literal["training", "done", "diverged"]
# The dimension along which a tensor is split among processes, and its whole size along it;
# format 1 says the dimension alone.
Split = tuple[int, int] | int
# Of a tensor that is split along several dimensions, or among some of the processes: for each, the
# dimension, its whole size, the number of chunks, and how many files lie from one to the next.
Grid = list[tuple[int, int, int, int]]


class DamagedCheckpointError(Exception):
    """One clause that says what is wrong with a checkpoint that was read."""


@strict()
@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """Of a file of the checkpoint."""

    sha256: str
    bytes: int


@strict(unknown="allow")
class Segment(TypedDict, total=False):
    """A machine of a run, as `glam.runs.machine` records it."""

    processor: str | None
    instruction_sets: list[str]
    kernels: str | None


@strict(unknown="allow")
class Machines(Segment, total=False):
    """The last machine, and those before it."""

    earlier: list[Segment]


@strict(unknown="allow")  # what a later version adds stands under the digest
@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json`. Fingerprints and machine are those of the processes that wrote it."""

    step: int
    tokens: int
    status: Status
    code: str = ""
    data: str = ""
    machine: Machine | None = None
    files: dict[str, FileDigest]
    split: dict[str, Split] = field(default_factory=dict[str, Split])  # weights
    split_state: dict[str, Split] = field(default_factory=dict[str, Split])  # optimizer state
    grid: dict[str, Grid] = field(default_factory=dict[str, Grid])  # weights
    grid_state: dict[str, Grid] = field(default_factory=dict[str, Grid])  # optimizer state
    format: int = 1
    digest: str | None = None  # SHA-256 of all else in the manifest

    @classmethod
    def read(cls, content: bytes) -> "Manifest":
        """The manifest in a file's bytes. Raises DamagedCheckpointError."""
        try:
            manifest = parse_json(content, cls)
            said: dict[str, Any] = json.loads(content)
            check_type(manifest.machine, Machines | None)
        except (ValueError, RecursionError) as error:
            raise DamagedCheckpointError(f"its manifest: {first_line(error)}") from None
        if manifest.digest is None and manifest.format > 1:
            raise DamagedCheckpointError("its manifest has lost its digest")
        if manifest.digest is not None and manifest.digest != digest(said):
            raise DamagedCheckpointError("its manifest is not what was saved")
        if manifest.format <= FORMAT:
            manifest._check_files()
        return manifest

    def _check_files(self) -> None:
        """Every file is one that a checkpoint has, and no process's part is missing."""
        for name in self.files:
            if PART.fullmatch(name) is None:
                raise DamagedCheckpointError(
                    f"its manifest lists {name!r}, no file of a checkpoint"
                )
        for kind in ("model", "optimizer", "state"):
            names = self.parts(kind)
            if len(names) > 1 and names != [
                part_name(names[0], n, len(names)) for n in range(len(names))
            ]:
                raise DamagedCheckpointError(f"its manifest lacks a part of the {kind}")
        for kind in ("model", "state"):
            if not self.parts(kind):
                raise DamagedCheckpointError(f"it has no {kind}")

    def parts(self, kind: str) -> list[str]:
        """Names of the files that hold `model`, `optimizer` or `state`, in the order of the
        processes that wrote them."""
        return sorted(name for name in self.files if re.split(r"[-.]", name)[0] == kind)

    def to_json(self) -> str:
        """The text of the file, with its digest."""
        has_grids = bool(self.grid or self.grid_state)
        format_ = FORMAT if has_grids else FORMAT_WITHOUT_GRIDS
        said = {**dataclasses.asdict(self), "format": format_}
        for name in ("digest", *(() if has_grids else ("grid", "grid_state"))):
            del said[name]
        return json.dumps({**said, "digest": digest(said)}, indent=1) + "\n"


def part_name(name: str, rank: int, size: int) -> str:
    """The name of one process's part of the file `name`; `name` itself where it is alone."""
    stem, _, ending = name.partition(".")
    return name if size == 1 else f"{stem.split('-')[0]}-{rank + 1:05d}-of-{size:05d}.{ending}"


def digest(said: dict[str, Any]) -> str:
    """SHA-256 of what a manifest says, but its digest."""
    rest = {name: value for name, value in said.items() if name != "digest"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
