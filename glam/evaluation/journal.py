"""Answers of a model as they are made, on the disk: an evaluation that is killed goes on from them.

A line for each batch, behind a first line that says of what model and code they are. Batches are
made of what is left in the same order as of all, so what follows has the digits that it would have
had.
"""

import hashlib
import json
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from filelock import Timeout

from glam.log import log
from glam.model import Glam
from glam.runs.folder import locked
from glam.runs.identity import code_fingerprint


class Journal:
    """Answers by their key; of an earlier process too, where `about` is the same."""

    def __init__(self, file: Path, about: str) -> None:
        self.file = file
        self.known = _read(file, about)
        self._is_open = True
        self._write("w", json.dumps(about))  # anew: the last line there may be cut
        if self.known:
            self._write("a", json.dumps(self.known))

    def add(self, answers: Mapping[str, Any]) -> None:
        """A batch, whole or not at all."""
        self.known |= answers
        self._write("a", json.dumps(answers))

    def _write(self, mode: str, line: str) -> None:
        """An evaluation does not end because it could not be gone on with."""
        if not self._is_open:
            return
        try:
            with self.file.open(mode, encoding="utf-8") as out:
                out.write(line + "\n")
        except OSError as error:
            self._is_open = False
            log.warning(f"{self.file}: {error.strerror}; this evaluation could not be gone on with")


def _read(file: Path, about: str) -> dict[str, Any]:
    """Up to the first line that is not whole, which a killed process leaves."""
    found: dict[str, Any] = {}
    try:
        first, *lines = file.read_text(encoding="utf-8").split("\n")[:-1]
        if json.loads(first) != about:
            return {}
        for line in lines:
            found |= cast(dict[str, Any], json.loads(line))
    except (OSError, ValueError, TypeError):
        pass
    return found


@contextmanager
def journal(file: Path, model: Glam, **how: Any) -> Generator[Journal | None]:
    """Answers of a model, asked `how`, kept in `file` until the block ends without an error. None
    where another process keeps its own there."""
    file.parent.mkdir(exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(file.with_name(f"{file.name}.lock"), timeout=0))
        except Timeout:
            yield None
            return
        found = Journal(file, _about(model, how))
        if found.known:
            log.info(f"{len(found.known):,} answers are there from an evaluation that was cut off")
        yield found
        file.unlink(missing_ok=True)


def _about(model: Glam, how: Mapping[str, Any]) -> str:
    """The same where every answer is: of the weights, the code, the device and what is asked."""
    found = hashlib.sha256()
    for name, weight in model.state_dict().items():
        found.update(f"{name} {weight.dtype} {weight.device} {tuple(weight.shape)}".encode())
        found.update(weight.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().data)
    found.update(f"{code_fingerprint()} {sorted(how.items())}".encode())
    return found.hexdigest()


def key_of(*parts: Any) -> str:
    """Of what is asked."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
