from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glam.config import Record
from glam.data.formats import Spec, records

Read = Callable[..., tuple[list[str], list[tuple[str, str]]]]


@pytest.fixture
def read() -> Read:
    """Texts of the documents of a file, and kind and place (without the folder) of what is bad."""

    def read(*paths: Path, **spec: Any) -> tuple[list[str], list[tuple[str, str]]]:
        texts: list[str] = []
        bad: list[tuple[str, str]] = []
        for found in records(paths, Spec(**spec)):
            if isinstance(found, Record):
                texts.append(found.text)
            else:
                assert len(found.content) <= 1000
                bad.append((found.kind, found.place.rpartition("/")[2]))
        return texts, bad

    return read
