"""Files of a hub with faults arrive whole, each once."""

import errno
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_hub import FakeHub, FakeRepo, Fault

from glam.config import HubCorpusConfig, Source
from glam.data.hub import hub_sources
from glam.errors import UserError

FILES = {f"data/train-{i}.jsonl": i for i in range(4)}
Opened = Callable[..., Source]


def rows(number: int) -> list[str]:
    return [f"document {number} {i} " + "word " * 200 for i in range(50)]


def content(number: int) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in rows(number)).encode()


@pytest.fixture
def opened(hub: FakeHub, tmp_path: Path) -> Opened:
    hub.repos["some/text"] = FakeRepo({path: content(i) for path, i in FILES.items()})

    def open_source(**keys: Any) -> Source:
        keys = {"retry_seconds": 0.001, "timeout_seconds": 5.0} | keys
        folder = str(tmp_path / "hub")
        [source] = hub_sources(HubCorpusConfig(datasets=["some/text"], folder=folder, **keys))
        return source

    return open_source


def read(source: Source) -> list[str]:
    """Every document, file by file as the pipeline reads them."""
    found: list[str] = []
    for index in range(len(source.files)):
        with source.here([index]) as paths:
            found += map(text_of, source.reader(paths))
    return found


def text_of(record: Any) -> str:
    return record if isinstance(record, str) else record.text


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [Fault(429, {"Retry-After": "0"})],
        [Fault(503)],
        [Fault("cut")],
        [Fault("cut"), Fault("cut"), Fault(500), Fault("cut")],
        [Fault(status) for status in (429, 503, 500, 502, 408, 504)],
        [Fault("cut"), *[Fault(503)] * 6, Fault("cut")],
    ],
    ids=lambda faults: " ".join(str(fault.kind) for fault in faults) or "none",
)
def test_every_row_arrives_once(hub: FakeHub, opened: Opened, faults: list[Fault]) -> None:
    source = opened()
    hub.faults.extend(faults)
    assert read(source) == [text for number in range(4) for text in rows(number)]
    assert not hub.faults


def test_a_hub_that_hangs_is_asked_again(hub: FakeHub, opened: Opened) -> None:
    source = opened(timeout_seconds=0.2)
    hub.faults.append(Fault("hang"))
    assert len(read(source)) == 200


def test_a_file_goes_on_where_it_was_cut(hub: FakeHub, opened: Opened) -> None:
    source = opened()
    hub.faults.append(Fault("cut"))
    with source.here([0]):
        pass
    size = len(content(0))
    assert [line.partition("bytes=")[2] for line in hub.fetched()] == ["", f"{size // 2}-"]


def test_a_process_that_was_killed_is_gone_on_with(hub: FakeHub, opened: Opened) -> None:
    hub.faults.append(Fault("cut"))
    with pytest.raises(UserError, match="the same line goes on where it stopped"):
        read(opened(retry_hours=0))
    hub.requests.clear()
    assert read(opened(retry_hours=0)) == [text for number in range(4) for text in rows(number)]
    assert hub.fetched()[0].endswith(f"bytes={len(content(0)) // 2}-")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits for the hub, in seconds, which pass at once."""
    waits: list[float] = []
    clock = SimpleNamespace(sleep=waits.append, monotonic=lambda: sum(waits))
    monkeypatch.setattr("glam.data.hub.patience.time", clock)
    return waits


def test_the_wait_is_told_and_ends(
    hub: FakeHub, opened: Opened, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    source = opened(retry_hours=0.1, retry_seconds=100.0)
    hub.faults.extend([Fault(503)] * 1000)
    with pytest.raises(UserError, match=r"some/text/data/train-0.jsonl: the hub answers 503"):
        read(source)
    assert sum(waits) == pytest.approx(360)
    assert "some/text/data/train-0.jsonl: the hub answers 503; waiting" in caplog.text


def test_as_long_as_the_hub_asks_and_twice_as_long_each_time_else(
    hub: FakeHub, opened: Opened, waits: list[float]
) -> None:
    source = opened(retry_seconds=3.0)
    hub.faults.extend([Fault(503), Fault(429, {"Retry-After": "70"}), *[Fault(503)] * 5])
    hub.faults.append(Fault(429, {"RateLimit": '"api";r=0;t=55'}))
    assert len(read(source)) == 200
    assert waits == [3, 70, 12, 24, 48, 60, 60, 60]


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "hf auth login"), (403, "hf auth login"), (404, "the hub answers 404"), (400, "400")],
)
def test_what_does_not_pass_is_refused_at_once(
    hub: FakeHub, opened: Opened, status: int, says: str
) -> None:
    source = opened()
    hub.faults.append(Fault(status))
    with pytest.raises(UserError, match=says):
        read(source)
    assert len(hub.fetched()) == 1


def test_a_file_that_is_other_than_listed_is_refused_and_not_kept(
    hub: FakeHub, opened: Opened, tmp_path: Path
) -> None:
    source = opened()
    hub.repos["some/text"].files["data/train-0.jsonl"] = content(0).replace(b"word", b"bird")
    with pytest.raises(UserError, match=r"train-0.jsonl arrives other than it is listed"):
        read(source)
    assert not list((tmp_path / "hub").rglob("*train-0*.part"))


def test_files_are_removed_once_they_are_read(hub: FakeHub, opened: Opened) -> None:
    source = opened()
    with source.here([0, 1]) as paths:
        assert [path.read_bytes() for path in paths] == [content(0), content(1)]
    assert not any(path.exists() for path in paths)


def test_or_kept_and_then_not_fetched_again(hub: FakeHub, opened: Opened) -> None:
    read(opened(keep_downloads=True))
    hub.requests.clear()
    assert len(read(opened(keep_downloads=True))) == 200
    assert hub.requests == []


def test_a_kept_file_that_is_damaged_is_fetched_again(hub: FakeHub, opened: Opened) -> None:
    source = opened(keep_downloads=True)
    with source.here([0]) as [path]:
        pass
    path.write_bytes(content(0).replace(b"word", b"bird", 1))
    with source.here([0]) as [path]:
        assert path.read_bytes() == content(0)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_fetched(
    hub: FakeHub, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["some/text"].files["data/train-0.jsonl"] = bytes(6_000_000)
    source = opened()
    usage = type("Usage", (), {"free": 5e6})
    monkeypatch.setattr("glam.data.hub.refusals.shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"has 5 MB free and a file of the hub needs 6 MB"):
        read(source)
    assert hub.fetched() == []


def test_another_process_can_fetch(hub: FakeHub, opened: Opened) -> None:
    source: Source = pickle.loads(pickle.dumps(opened()))
    with source.here([2]) as paths:
        assert list(map(text_of, source.reader(paths))) == rows(2)


def test_a_disk_that_fills_is_told_and_what_has_come_is_kept(
    hub: FakeHub, opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    source = opened()
    with monkeypatch.context() as patch:
        patch.setattr("glam.data.hub.download._go_on", full)
        with pytest.raises(UserError, match=r"data.corpus.folder=.* free some space or set"):
            read(source)
    assert len(read(source)) == 200


def test_a_folder_that_cannot_be_written_is_told(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos["some/text"] = FakeRepo({path: content(i) for path, i in FILES.items()})
    (tmp_path / "file").touch()
    corpus = HubCorpusConfig(datasets=["some/text"], folder=str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"data.corpus.folder=.* cannot be written"):
        hub_sources(corpus)
    with pytest.raises(UserError, match=r"data.corpus.folder is empty; name a folder"):
        HubCorpusConfig(datasets=["some/text"], folder="")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux has a folder that takes no others")
def test_a_folder_that_cannot_be_made_is_told(hub: FakeHub) -> None:
    hub.repos["some/text"] = FakeRepo({path: content(i) for path, i in FILES.items()})
    corpus = HubCorpusConfig(datasets=["some/text"], folder="/proc/nowhere")
    with pytest.raises(UserError, match=r"data.corpus.folder=/proc/nowhere.* cannot be written"):
        hub_sources(corpus)
