import os
from collections.abc import Callable
from pathlib import Path

import pytest

from glam.config import LocalCorpusConfig, Record
from glam.data.local import local_sources
from glam.errors import UserError

Write = Callable[[str, str], Path]


def read(corpus: LocalCorpusConfig) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for source in local_sources(corpus):
        records = list(source.reader(source.files))
        assert all(isinstance(record, Record) for record in records)
        found[source.name] = [record.text for record in records if isinstance(record, Record)]
    return found


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


def test_what_names_no_text_is_refused(write: Write, tmp_path: Path) -> None:
    write("web/posts.jsonl", "{}")
    write("page.html", "a,b")
    write("crawl.warc.gz", "")
    (tmp_path / "empty").mkdir()
    for given, says in (
        ("web/post.jsonl", r"did you mean posts.jsonl\?"),
        ("page.html", "converted first"),
        ("crawl.warc.gz", "take the crawl's .wet"),
        ("empty", "the folder holds none"),
        ("no/where/*.txt", "looked in"),
    ):
        with pytest.raises(UserError, match=rf"data.corpus.files: .*{says}"):
            local_sources(LocalCorpusConfig(files=[str(tmp_path / given)]))
    with pytest.raises(UserError, match=r"data.corpus.files=\[\] names no text"):
        local_sources(LocalCorpusConfig())


def test_text_that_is_read_as_before_keeps_its_key(write: Write) -> None:
    path = str(write("posts.jsonl", '{"text": "one"}\n'))
    names = [
        local_sources(LocalCorpusConfig(files=[path], **keys))[0].reader_name
        for keys in (
            {},
            {"max_bad_share": 0.5},
            {"text_field": "doc.text", "domain_field": "source", "score_field": "score"},
            {"max_record_megabytes": 1.0},
        )
    ]
    assert names == [
        "local:text",
        "local:text",
        "local:doc.text:domain=source:score=score,True",
        "local:text:most=1000000",
    ]


def test_a_single_txt_is_cut_into_sections_and_a_folder_of_them_is_not(
    write: Write, tmp_path: Path
) -> None:
    text = "\n\n".join(f"{n} " + "word " * 300 for n in range(50))
    book = write("one/book.txt", text)
    write("two/a.txt", text)
    write("two/b.txt", "short")
    alone = read(LocalCorpusConfig(files=[str(book)]))["one"]
    assert len(alone) > 10
    assert read(LocalCorpusConfig(files=[str(tmp_path)])) == {"one": alone, "two": [text, "short"]}


def test_scores_are_asked_of_web_text_alone(write: Write) -> None:
    good, web = write("good.jsonl", '{"text": "x"}'), write("web.jsonl", '{"text": "y", "s": 2}')
    corpus = LocalCorpusConfig(files=[str(web)], curated=[str(good)], score_field="s")
    curated, pool = local_sources(corpus)
    assert list(curated.reader(curated.files)) == [Record("x")]
    assert list(pool.reader(pool.files)) == [Record("y", score=2.0)]


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
    with pytest.raises(UserError, match=r"data.corpus.files: '' names no file of text \("):
        local_sources(LocalCorpusConfig(files=[""]))
