"""A pool of many shards, of which only kept pages are encoded: against the same pool as one shard,
and whatever happens meanwhile."""

import csv
import errno
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_shards import corpus_of, text_of

from glam.config import DataConfig, FilterConfig
from glam.data import PreparedData, divided, documents, pipeline, prepare
from glam.data.cache import Cache
from glam.data.executor import pool
from glam.errors import UserError

VOCAB = 300
FILES = 6  # of the pool


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the pool's 180 documents some are copies, in other files."""
    root = tmp_path_factory.mktemp("text")
    for number in range(FILES):
        mine = range(30 * number, 30 * number + 30)
        rows = [text_of(f"web {i}", formal=i % 3 == 0) for i in mine]
        rows[1:3] = [text_of(f"web {i}", formal=False) for i in (1, 2)]
        write(root / f"web-{number}.csv", rows)
    for number in range(2):
        rows = [text_of(f"good {number} {i}", formal=True) for i in range(30)]
        write(root / f"good-{number}.csv", rows)
    return root


def write(path: Path, rows: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["text"], *([row] for row in rows)])


def config(text: Path, **changes: Any) -> DataConfig:
    given = {
        "corpus": corpus_of(text),
        "page_characters": 200,
        "tokenizer_megabytes": 0.02,
        "filter": FilterConfig(alpha=2.0, num_features=4096),
        "workers": 1,
    }
    return DataConfig(**{**given, **changes})


@pytest.fixture
def in_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is a unit of one shard, and the pool is a large one."""
    for module in (documents, pipeline):
        monkeypatch.setattr(module, "SHARD_BYTES", 3_000)


def trained_on(prepared: PreparedData) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in prepared.components:
        for part, start, length in zip(each.part, each.starts, each.lengths, strict=True):
            name = prepared.sources[each.sources[part]]
            tokens = each.parts[part][start + 1 : start + length].tolist()
            found.setdefault(name, []).append(prepared.tokenizer.decode(tokens))
    return found


def held_out(prepared: PreparedData) -> dict[str, list[str]]:
    return {
        name: [prepared.tokenizer.decode(each.document(i)[1:].tolist()) for i in range(len(each))]
        for name, each in prepared.held_out.items()
    }


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(config(text), VOCAB, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("unfiltered", [False, True])
def test_many_shards_give_the_text_that_one_gives(
    text: Path, whole: PreparedData, tmp_path: Path, in_shards: None, unfiltered: bool
) -> None:
    data = config(text)
    if unfiltered:
        data = replace(data, filter=FilterConfig(name="none"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "SHARD_BYTES", 10**9)
            patch.setattr(documents, "SHARD_BYTES", 10**9)
            whole = prepare(data, VOCAB, tmp_path / "whole")
    found = prepare(data, VOCAB, tmp_path)
    assert len(list(tmp_path.glob("documents-*"))) == FILES + 2
    assert found.tokenizer.fingerprint == whole.tokenizer.fingerprint
    assert trained_on(found) == trained_on(whole)
    assert held_out(found) == held_out(whole)
    assert found.quality == whole.quality
    assert found.samples == whole.samples
    for mine, other in zip(found.funnel, whole.funnel, strict=True):
        if mine["step"] == "pages" and mine["role"] == "pool" and not unfiltered:
            other = {**other, "tokens": None}  # most of them are not encoded
        assert mine == other
    assert found.texts is not None
    assert whole.texts is not None
    assert list(found.texts.training(10**9)) == list(whole.texts.training(10**9))
    assert found.texts.held_out(400, 3) == whole.texts.held_out(400, 3)


def test_the_funnel_counts_megabytes_copies_and_bad_records(whole: PreparedData) -> None:
    rows = {(row["source"], row["step"]): row for row in whole.funnel}
    distinct = rows["web", "distinct"]
    assert distinct["exact_copies"] == 2 * (FILES - 1)
    assert distinct["documents"] == 30 * FILES - 2 * (FILES - 1) - distinct["near_copies"]
    assert rows["web", "read"]["bad_records"] == {}
    for source, step in (("web", "kept"), ("good", "training")):
        row = rows[source, step]
        assert row["megabytes"] == sum(len(t.encode()) for t in trained_on(whole)[source]) / 1e6


def test_left_out_text_is_not_trained_on_of_a_large_pool_either(
    text: Path, tmp_path: Path, in_shards: None
) -> None:
    found = prepare(config(text, left_out=["web"]), VOCAB, tmp_path)
    assert trained_on(found).keys() == {"good"}
    [kept] = [row for row in found.funnel if row["step"] == "kept" and row["source"] == "web"]
    assert (kept["documents"], kept["tokens"], kept["megabytes"]) == (0, 0, 0)
    assert found.fingerprint != prepare(config(text), VOCAB, tmp_path).fingerprint


def content(cache: Path) -> dict[str, bytes]:
    """Every file of every stage; of the tokenizer its vocabulary, since SentencePiece writes into
    its model where that was trained."""
    return {
        path.relative_to(cache).as_posix(): path.read_bytes()
        for path in sorted(cache.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
        if not path.parent.name.startswith("tokenizer-") or path.suffix == ".vocab"
    }


@pytest.mark.slow
def test_the_bytes_are_the_same_for_any_number_of_workers(
    text: Path, tmp_path: Path, in_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "_FEW_BYTES", 0)
    started: list[object] = []
    hired = pool._hired  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(pool, "_hired", lambda: started.append(0) or hired())
    for workers in (1, 2):
        prepare(config(text, workers=workers), VOCAB, tmp_path / str(workers))
        assert bool(started) == (workers > 1)
    assert content(tmp_path / "1") == content(tmp_path / "2")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied")
def test_what_is_killed_at_random_goes_on_and_ends_with_the_same_bytes(
    text: Path, tmp_path: Path, in_shards: None
) -> None:
    """Killed after some folders more, until nothing is left to do."""
    expected = prepare(config(text), VOCAB, tmp_path / "undisturbed").fingerprint
    cache, draws, kills = tmp_path / "cache", random.Random(0), 0
    while True:
        wanted = len(list(cache.glob("*-*"))) + draws.randint(2, 20)
        if not (child := os.fork()):
            prepare(config(text), VOCAB, cache)
            os._exit(0)
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if len(list(cache.glob("*-*"))) >= wanted:
                os.kill(child, signal.SIGKILL)
                ended = os.waitpid(child, 0)
                kills += 1
                break
            time.sleep(0.002)
        if os.waitstatus_to_exitcode(ended[1]) == 0:
            break
    assert kills > 2
    assert prepare(config(text), VOCAB, cache).fingerprint == expected
    assert content(cache) == content(tmp_path / "undisturbed")


@pytest.mark.parametrize("harm", ["truncated", "a byte flipped"])
def test_a_damaged_shard_is_found_named_and_read_again(
    text: Path, tmp_path: Path, in_shards: None, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = prepare(config(text), VOCAB, tmp_path)
    for stage in ("tokens", "pages"):  # so that the text is read again
        for folder in tmp_path.glob(f"{stage}-*"):
            shutil.rmtree(folder)
    victim = sorted(tmp_path.glob("documents-*/00000/text.parquet"))[0]
    found = bytearray(victim.read_bytes())
    if harm == "truncated":
        found = found[:-10]
    else:
        found[len(found) // 2] ^= 1
    victim.write_bytes(found)
    again = prepare(config(text), VOCAB, tmp_path)
    assert again.fingerprint == before.fingerprint
    [line] = [line for line in caplog.messages if "damaged" in line]
    assert victim.parents[1].name in line
    assert "00000/text.parquet" in line


@pytest.mark.parametrize("stage", ["documents", "copies", "sides", "pages", "scores", "tokens"])
def test_a_disk_that_fills_up_in_mid_stage_is_one_line_and_nothing_is_lost(
    text: Path, tmp_path: Path, in_shards: None, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Cache._make  # pyright: ignore[reportPrivateUsage]

    def full(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def make_or_fail(self: Cache, folder: Path, build: Any) -> None:
        make(self, folder, full if folder.name.startswith(stage) else build)

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "_make", make_or_fail)
        with pytest.raises(UserError, match="no space left; free some") as refused:
            prepare(config(text), VOCAB, tmp_path)
    assert "\n" not in str(refused.value)
    # The tokenizer may still be made in the background: it ends, and is kept.
    assert not [part for part in tmp_path.glob("*.part-*") if "tokenizer" not in part.name]
    prepare(config(text), VOCAB, tmp_path)


def test_too_little_disk_is_refused_with_the_number_before_anything_is_read(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "volume", lambda sources: SimpleNamespace(text=10**15))
    with pytest.raises(UserError, match=r"cache_dir=.* free and preparing .* may need 1,500"):
        prepare(config(text), VOCAB, tmp_path)
    assert not list(tmp_path.glob("documents-*"))
