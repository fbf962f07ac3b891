import os
from collections.abc import Callable
from pathlib import Path

import pytest

from glam.config import LocalCorpusConfig
from glam.data.local import local_sources
from glam.errors import UserError

Write = Callable[[str, str], Path]


def read(corpus: LocalCorpusConfig) -> dict[str, list[str]]:
    return {s.name: list(s.reader(s.files)) for s in local_sources(corpus)}


def test_files_folders_and_globs_are_read_each_file_once(write: Write, tmp_path: Path) -> None:
    write("a/posts.jsonl", '{"text": "one"}\n\n{"text": "two", "id": 2}\n')
    write("a/book/1.txt", "chapter one")
    write("a/book/2.txt", "\ufeffchapter two")
    write("a/readme.md", "no")
    corpus = LocalCorpusConfig(files=[str(tmp_path / "a"), str(tmp_path / "**" / "*.jsonl")])
    assert read(corpus) == {"book": ["chapter one", "chapter two"], "posts": ["one", "two"]}


def test_paths_are_relative_to_the_current_directory(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("web/posts.jsonl", '{"text": "one"}\n')
    monkeypatch.chdir(tmp_path)
    assert read(LocalCorpusConfig(files=["web/*.jsonl"])) == {"posts": ["one"]}


def test_roles_follow_from_the_lists_and_curated_wins(write: Write) -> None:
    good, web = write("good/a.jsonl", '{"text": "x"}'), write("web/a.jsonl", '{"text": "y"}')
    corpus = LocalCorpusConfig(files=[str(web), str(good)], curated=[str(good)])
    found = [(s.name, s.role, s.component, len(s.files)) for s in local_sources(corpus)]
    assert found == [("a", "curated", "books", 1), ("a-web", "pool", "webpages", 1)]


def test_held_out_text_is_only_evaluated_on_and_keeps_its_name_apart(write: Write) -> None:
    good, web = write("good/a.jsonl", '{"text": "x"}'), write("web/a.jsonl", '{"text": "y"}')
    exam = write("exam/a.jsonl", '{"text": "z"}')
    corpus = LocalCorpusConfig(
        files=[str(web), str(exam)], curated=[str(good), str(exam)], held_out=[str(exam)]
    )
    found = [(s.name, s.role, len(s.files)) for s in local_sources(corpus)]
    assert found == [("a", "curated", 1), ("a-web", "pool", 1), ("a-held-out", "held_out", 1)]
    with pytest.raises(UserError, match=r"data.corpus.files=\[\] names no text"):
        local_sources(LocalCorpusConfig(held_out=[str(exam)]))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"body": "x"}', r"posts.jsonl:2: no field 'text', .*choose from body"),
        ('{"texts": "x"}', r"posts.jsonl:2: .* did you mean texts\?"),
        ('{"text": "x"', r"posts.jsonl:2: not JSON \(Expecting ',' delimiter, column \d+\)"),
        ('{"text": 3}', r"posts.jsonl:2: 'text' is int, not text"),
        ('["x"]', r"posts.jsonl:2: a line must be an object"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(write: Write, line: str, says: str) -> None:
    path = write("posts.jsonl", f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(UserError, match=says) as refusal:
        read(LocalCorpusConfig(files=[str(path)]))
    assert "\n" not in str(refusal.value)


def test_text_that_is_not_utf8_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "x"}\n{"text": "caf\xe9"}\n')
    for name, place in (("a.txt", "a.txt is not UTF-8"), ("b.jsonl", "b.jsonl:2: not UTF-8")):
        with pytest.raises(UserError, match=place):
            read(LocalCorpusConfig(files=[str(tmp_path / name)]))


def test_what_names_no_text_is_refused(write: Write, tmp_path: Path) -> None:
    write("web/posts.jsonl", "{}")
    write("table.csv", "a,b")
    (tmp_path / "empty").mkdir()
    for given, says in (
        ("web/post.jsonl", r"did you mean posts.jsonl\?"),
        ("table.csv", "converted first"),
        ("empty", "the folder holds none"),
        ("no/where/*.txt", "looked in"),
    ):
        with pytest.raises(UserError, match=rf"data.corpus.files: .*{says}"):
            local_sources(LocalCorpusConfig(files=[str(tmp_path / given)]))
    with pytest.raises(UserError, match=r"data.corpus.files=\[\] names no text"):
        local_sources(LocalCorpusConfig())


def test_more_domains_than_a_byte_can_name_are_refused(tmp_path: Path) -> None:
    for i in range(256):
        (tmp_path / f"{i}.jsonl").write_text("")
    with pytest.raises(UserError, match="256 domains"):
        local_sources(LocalCorpusConfig(files=[str(tmp_path)]))


def test_a_pipe_in_place_of_a_file_is_refused_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match="it is a pipe, a socket or a device"):
        local_sources(LocalCorpusConfig(files=[str(tmp_path / "a.txt")]))


def test_held_out_text_is_kept_out_by_whatever_name_it_is_listed(
    write: Write, tmp_path: Path
) -> None:
    write("web/a.jsonl", '{"text": "x"}')
    exam = write("exam/b.jsonl", '{"text": "z"}')
    (tmp_path / "web/linked").symlink_to(tmp_path / "exam")
    corpus = LocalCorpusConfig(files=[str(tmp_path / "web")], held_out=[str(exam)])
    assert [(s.name, s.role) for s in local_sources(corpus)] == [("a", "pool"), ("b", "held_out")]


def test_an_empty_pattern_names_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("not meant")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data.corpus.files: '' names no .jsonl or .txt file"):
        local_sources(LocalCorpusConfig(files=[""]))
