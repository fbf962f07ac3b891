"""Which files a pattern names, and what is left out of them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from glam.data.files import Finder, _say_once, each_once, without
from glam.errors import UserError

Write = Callable[[str, str], Path]
KINDS = (".jsonl", ".txt")


def found(root: Path, pattern: str) -> Sequence[str]:
    """Names relative to `root`."""
    files = Finder("key", KINDS).files(str(root / pattern))
    return [path.relative_to(root).as_posix() for path in files]


def said(root: Path, pattern: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    _say_once.cache_clear()
    finder = Finder("key", KINDS)
    finder.files(str(root / pattern))
    with caplog.at_level("INFO", "glam"):
        finder.say_left_out()
        finder.say_left_out()
    return caplog.messages


@pytest.mark.parametrize("name", ["posts[1].txt", "what?.txt", "all*.txt", "in[0]/a.txt"])
def test_a_path_that_exists_is_literal(write: Write, tmp_path: Path, name: str) -> None:
    for each in (name, "posts1.txt", "whatx.txt", "ally.txt", "in0/a.txt"):
        write(each, "x")
    assert found(tmp_path, name) == [name]


def test_a_folder_with_brackets_is_literal_within_a_glob(write: Write, tmp_path: Path) -> None:
    for name in ("in[0]/a.txt", "in[0]/deep/b.txt", "in0/c.txt"):
        write(name, "x")
    assert found(tmp_path, "in[0]/*.txt") == ["in[0]/a.txt"]
    assert found(tmp_path, "in[0]/**/*.txt") == ["in[0]/a.txt", "in[0]/deep/b.txt"]
    assert found(tmp_path, "in[0]") == ["in[0]/a.txt", "in[0]/deep/b.txt"]


def test_brackets_of_no_path_are_a_glob(write: Write, tmp_path: Path) -> None:
    for name in ("a0.txt", "a1.txt", "a2.txt"):
        write(name, "x")
    assert found(tmp_path, "a[12].txt") == ["a1.txt", "a2.txt"]


@pytest.mark.parametrize("pattern", [".", "*", "**", "**/*.txt", "*/*.txt", "**/**/*.txt"])
def test_hidden_files_and_folders_of_editors_are_no_text(
    write: Write, tmp_path: Path, pattern: str
) -> None:
    for name in ("a/b.txt", "a/._b.txt", "a/.git/c.txt", "a/.ipynb_checkpoints/b.txt", ".x/a.txt"):
        write(name, "x")
    assert found(tmp_path, pattern) == ["a/b.txt"]


def test_a_hidden_name_that_is_typed_is_text(write: Write, tmp_path: Path) -> None:
    write(".notes/a.txt", "x")
    for pattern in (".notes", ".notes/*.txt", ".n*/*", ".notes/a.txt"):
        assert found(tmp_path, pattern) == [".notes/a.txt"]


@pytest.mark.parametrize("pattern", ["data", "data/", "data/**", "data/**/*.txt", "data/*/*.txt"])
def test_linked_folders_and_files_are_followed_by_folders_and_globs_alike(
    write: Write, tmp_path: Path, pattern: str
) -> None:
    write("data/a/1.txt", "x")
    write("elsewhere/2.txt", "x")
    write("blobs/0123", "x")
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/3.txt").symlink_to(tmp_path / "blobs/0123")
    assert found(tmp_path, pattern) == ["data/a/1.txt", "data/a/3.txt", "data/linked/2.txt"]


@pytest.mark.parametrize("pattern", ["", "**", "**/*.txt"])
def test_a_linked_folder_goes_by_its_own_name_where_it_has_one(
    write: Write, tmp_path: Path, pattern: str
) -> None:
    write("z/1.txt", "x")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/link").symlink_to(tmp_path / "z")
    assert found(tmp_path, pattern) == ["z/1.txt"]


@pytest.mark.parametrize("pattern", ["", "**", "**/*.txt", "**/**/*.txt"])
def test_loops_of_links_end(write: Write, tmp_path: Path, pattern: str) -> None:
    write("a/1.txt", "x")
    for number in range(6):  # each would double the paths at every level
        (tmp_path / f"a/loop{number}").symlink_to(tmp_path / "a")
    assert [os.path.realpath(tmp_path / name) for name in found(tmp_path, pattern)] == [
        str(tmp_path / "a/1.txt")
    ]


@pytest.mark.parametrize("pattern", ["", "**", "*", "**/*.txt"])
def test_a_link_that_leads_to_itself_is_passed_over_as_a_broken_one(
    write: Write, tmp_path: Path, pattern: str
) -> None:
    write("a/1.txt", "x")
    (tmp_path / "a/2.txt").symlink_to(tmp_path / "a/2.txt")
    (tmp_path / "a/3.txt").symlink_to(tmp_path / "nowhere")
    assert found(tmp_path, pattern) == ["a/1.txt"]


def test_of_two_names_of_a_file_the_target_is_taken_once(write: Write, tmp_path: Path) -> None:
    real, other = write("b.txt", "x"), write("c.txt", "y")
    link = tmp_path / "a.txt"
    link.symlink_to(real)
    assert list(each_once([link, real, other, real])) == [real, other]
    assert list(without([link, other], [real])) == [other]


def test_what_is_left_out_is_said_once_with_counts(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.txt", "b.md", "c.md", "d.csv", ".hidden.txt", ".git/x.txt", "e/f.rst"):
        write(name, "x")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    assert said(tmp_path, "", caplog) == [
        "key leaves out: 2 hidden, 4 of other kinds (.md, .csv, .rst), 2 broken links, "
        "pipes or devices; text is .jsonl and .txt"
    ]


def test_where_nothing_is_left_out_nothing_is_said(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write("a.txt", "x")
    assert said(tmp_path, "*.txt", caplog) == []


def test_a_folder_that_cannot_be_read_is_one_line(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = write("closed/a.txt", "x").parent
    write("a.txt", "x")
    read = os.scandir

    def scandir(path: str):
        if path == str(closed):
            raise PermissionError(13, "Permission denied", path)
        return read(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for pattern in ("", "**/*.txt"):
        with pytest.raises(UserError, match=r"key: .*closed cannot be read \(Permission denied\)"):
            found(tmp_path, pattern)


def test_home_is_expanded(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.txt", "x")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(Finder("key", KINDS).files("~/*.txt")) == [tmp_path / "a.txt"]
    with pytest.raises(UserError, match=r"key=~nobody-here/a: no home directory is known"):
        Finder("key", KINDS).files("~nobody-here/a")
