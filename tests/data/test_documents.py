"""Units of files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from glam.data import documents
from glam.data.digests import Digests
from glam.data.documents import units_of
from glam.data.reading import read_unit
from glam.data.shards import Shard
from tests.data.made_shards import files, source


def test_a_unit_is_consecutive_files_up_to_a_size_or_one_larger_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "SHARD_BYTES", 10)
    whole = source(files(tmp_path, 4, 6, 1, 50, 3, 3, 5))
    units = units_of([whole, replace(whole, name="other")], Digests())
    mine = [[path.stem for path in u.source.files] for u in units if u.number == 0]
    assert mine == [["0", "1"], ["2"], ["3"], ["4", "5"], ["6"]]
    assert [unit.size for unit in units[:5]] == [10, 1, 50, 6, 5]
    assert len({unit.key for unit in units}) == 10


def test_files_that_lie_elsewhere_are_a_unit_each_and_are_fetched_by_their_own_number(
    tmp_path: Path,
) -> None:
    fetched: list[int] = []

    @contextmanager
    def fetch(index: int) -> Iterator[Path]:
        fetched.append(index)
        path = tmp_path / "here"
        path.write_text(f"text of {index}")
        yield path

    far = source(
        [Path("a.txt"), Path("b.txt"), Path("c.txt")],
        lambda paths: (path.read_text() for path in paths),
        content=("1", "2", "3"),
        sizes=(9, 9, 9),
        fetch=fetch,
    )
    units = units_of([far], Digests())
    assert fetched == []
    assert len(units) == 3
    read_unit(tmp_path, units[2].source)
    assert fetched == [2]
    assert list(Shard(tmp_path / "00000").texts()) == ["text of 2"]
