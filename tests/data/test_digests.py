"""Hashes of files are remembered for as long as a file is the one that was hashed."""

import os
import pickle
from pathlib import Path

import pytest

from glam.data import digests
from glam.data.digests import Digests
from glam.data.hashing import file_digest

OLD = 1_600_000_000  # [s] a time long past


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are hashed."""
    found: list[Path] = []

    def hashed(path: Path, sampled: bool) -> str:
        found.append(path)
        return file_digest(path, sampled)

    monkeypatch.setattr(digests, "file_digest", hashed)
    return found


def file(tmp_path: Path, content: str, time: int = OLD) -> Path:
    path = tmp_path / "file\udcff.txt"  # a name that is no text
    path.write_text(content)
    os.utime(path, (time, time))
    return path


def test_a_file_is_hashed_once_by_all_processes(tmp_path: Path, read: list[Path]) -> None:
    path, one = file(tmp_path, "some"), Digests(tmp_path)
    expected = (4, file_digest(path))
    assert one.of(path) == one.of(path) == expected
    one.save()
    assert Digests(tmp_path).of(path) == expected
    assert pickle.loads(pickle.dumps(one)).of(path) == expected
    assert read == [path]


@pytest.mark.parametrize("change", ["size", "time", "inode", "just now"])
def test_a_file_that_may_be_another_is_hashed_again(
    tmp_path: Path, read: list[Path], change: str
) -> None:
    path, one = file(tmp_path, "some"), Digests(tmp_path)
    one.of(path)
    one.save()
    if change == "size":
        file(tmp_path, "other")
    elif change == "time":
        file(tmp_path, "emos", OLD + 1)
    elif change == "inode":
        path.rename(tmp_path / "kept")  # so that its inode is not free
        file(tmp_path, "emos")
    else:  # the same size and stamp may come twice within a tick of the clock
        path.write_text("emos")
        Digests(tmp_path).of(path)
    assert Digests(tmp_path).of(path)[1] == file_digest(path)
    assert len(read) == (3 if change == "just now" else 2)


@pytest.mark.parametrize("harm", ["no table", "no database"])
def test_what_is_remembered_badly_is_hashed_again(
    tmp_path: Path, read: list[Path], harm: str
) -> None:
    path, one = file(tmp_path, "some"), Digests(tmp_path)
    (tmp_path / ".digests.sqlite").write_bytes(b"" if harm == "no table" else b"x" * 5000)
    assert one.of(path) == (4, file_digest(path))
    one.save()
    assert Digests(tmp_path).of(path) == (4, file_digest(path))


def test_nothing_is_written_before_it_is_to_be_saved(tmp_path: Path) -> None:
    path = file(tmp_path, "some")
    Digests(tmp_path / "cache").of(path)
    Digests(None).save()
    assert list(tmp_path.iterdir()) == [path]
