import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from glam.data.cache import Cache
from glam.errors import UserError


class Builder:
    """Writes two files and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "inner").mkdir()
        (folder / "inner" / "a.bin").write_bytes(b"abc" * 100)
        (folder / "b.txt").write_text("b")


@pytest.fixture
def build() -> Builder:
    return Builder()


def test_a_stage_is_made_once_for_equal_inputs(tmp_path: Path, build: Builder) -> None:
    cache = Cache(tmp_path / "cache", needs=0)
    first = cache.stage("tokens", {"a": 1}, build)
    assert cache.stage("tokens", {"a": 1}, build) == first
    assert cache.stage("tokens", {"a": 2}, build) != first
    assert build.calls == 2
    assert (first / "b.txt").read_text() == "b"


@pytest.mark.parametrize("harm", ["truncate", "flip", "delete", "manifest"])
def test_a_damaged_stage_is_made_anew_and_said_once(
    tmp_path: Path, build: Builder, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = Cache(tmp_path, needs=0)
    folder = cache.stage("tokens", {}, build)
    victim = folder / "inner" / "a.bin"
    if harm == "truncate":
        victim.write_bytes(b"abc")
    elif harm == "flip":
        victim.write_bytes(b"abd" * 100)
    elif harm == "delete":
        victim.unlink()
    else:
        (folder / "manifest.json").write_text("{")
    cache.stage("tokens", {}, build)
    assert build.calls == 2
    assert victim.read_bytes() == b"abc" * 100
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "rebuilt" in said[0]
    cache.stage("tokens", {}, build)
    assert build.calls == 2


def test_a_stage_that_fails_leaves_nothing_that_looks_finished(
    tmp_path: Path, build: Builder
) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise RuntimeError("half way")

    cache = Cache(tmp_path, needs=0)
    with pytest.raises(RuntimeError, match="half way"):
        cache.stage("tokens", {}, fail)
    assert not list(tmp_path.glob("tokens-*"))
    cache.stage("tokens", {}, build)
    assert build.calls == 2


def test_what_a_killed_job_left_behind_is_cleared_away(tmp_path: Path, build: Builder) -> None:
    cache = Cache(tmp_path, needs=0)
    folder = cache.stage("tokens", {}, build)
    left = tmp_path / f"{folder.name}.part-1"
    shutil.copytree(folder, left)
    shutil.rmtree(folder)
    cache.stage("tokens", {}, build)
    assert not left.exists()


def test_too_little_disk_is_refused_before_anything_is_written(
    tmp_path: Path, build: Builder
) -> None:
    with pytest.raises(UserError, match=r"cache_dir=.* [GT]B free .* may need 1,000,000\.0 TB"):
        Cache(tmp_path, needs=10**18).stage("tokens", {}, build)
    assert build.calls == 0


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="no space left"):
        Cache(tmp_path, needs=0).stage("tokens", {}, full)


def test_a_cache_that_is_a_file_is_one_line(tmp_path: Path, build: Builder) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Cache(tmp_path / "cache", needs=0).stage("tokens", {}, build)


def test_the_manifest_lists_every_file(tmp_path: Path, build: Builder) -> None:
    folder = Cache(tmp_path, needs=0).stage("tokens", {}, build)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) == {"inner/a.bin", "b.txt"}


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_what_is_no_folder_at_a_stages_place_is_named_and_left_alone(
    tmp_path: Path, build: Builder, kind: str
) -> None:
    cache = Cache(tmp_path, needs=0)
    folder = cache.stage("tokens", {}, build)
    shutil.rmtree(folder)
    folder.symlink_to("nowhere") if kind != "file" else folder.write_text("mine")
    with pytest.raises(UserError, match=rf"{folder.name} is a file or a broken link .* remove it"):
        cache.stage("tokens", {}, build)
    assert os.path.lexists(folder)
    folder.unlink()
    cache.stage("tokens", {}, build)
    assert build.calls == 2


def test_a_linked_stage_is_used_and_rebuilt_beside_its_target_when_damaged(
    tmp_path: Path, build: Builder
) -> None:
    cache = Cache(tmp_path / "cache", needs=0)
    folder = cache.stage("tokens", {}, build)
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    assert cache.stage("tokens", {}, build) == folder
    (elsewhere / "b.txt").write_text("damaged")
    cache.stage("tokens", {}, build)
    assert build.calls == 2
    assert (elsewhere / "b.txt").read_text() == "damaged"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_stage_that_cannot_be_read_is_refused_and_not_removed(
    tmp_path: Path, build: Builder, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    cache = Cache(tmp_path, needs=0)
    folder = cache.stage("tokens", {}, build)

    def unreadable(path: Path, *_: object, **__: object) -> str:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr("glam.data.digests.file_digest", unreadable)
    with pytest.raises(UserError, match=rf"{folder.name} cannot be read \({os.strerror(code)}"):
        cache.stage("tokens", {}, build)
    assert (folder / "b.txt").exists()
    assert build.calls == 1


def test_a_pipe_in_place_of_a_manifest_does_not_hang(tmp_path: Path, build: Builder) -> None:
    cache = Cache(tmp_path, needs=0)
    folder = cache.stage("tokens", {}, build)
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    cache.stage("tokens", {}, build)
    assert build.calls == 2
