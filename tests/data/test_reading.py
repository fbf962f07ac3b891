"""Records of a unit, read into shards of their domains."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.config import BadRecord, Record, Source
from glam.data import reading, shards
from glam.data.hashing import document_hash
from glam.data.index import read_index, write_index
from glam.data.reading import read_unit
from glam.data.shards import Shard
from glam.errors import UserError
from tests.data.made_shards import files, source

RECORDS = [
    Record("one  two", "news/en"),
    Record("three", None, 0.5),
    BadRecord("not JSON", "a:3", b"\xff{"),
    Record(" \n "),
    Record("four Ü", "news/en"),
    BadRecord("not JSON", "a:6", b"", 2),
    "five",
]


def test_documents_go_to_a_shard_of_their_domain_and_bad_records_are_set_aside(
    tmp_path: Path,
) -> None:
    read_unit(tmp_path, source(files(tmp_path, 5), lambda _: iter(RECORDS)))
    unit = json.loads((tmp_path / "unit.json").read_text())
    assert [each["domain"] for each in unit["shards"]] == ["news_en", "web"]
    assert unit["records"] == 8
    assert unit["bad"] == {"not JSON": 3}
    news, web = (Shard(tmp_path / f"{number:05d}") for number in range(2))
    assert list(news.texts()) == ["one  two", "four Ü"]
    assert list(web.texts()) == ["three", "five"]
    assert news.hashes.tolist() == [document_hash("One two"), document_hash("four ü")]
    assert (news.characters.tolist(), news.num_bytes.tolist()) == ([8, 6], [8, 7])
    assert news.scores is None
    assert web.scores is not None
    assert web.scores[0] == 0.5
    assert np.isnan(web.scores[1])
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert lines[0] == {"place": "a:3", "kind": "not JSON", "content": "\\xff{"}


@pytest.mark.parametrize("batch", [1, 300, 5_000])
def test_a_full_shard_is_followed_by_another_and_rows_are_found_in_every_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1_000)
    monkeypatch.setattr(shards, "_GROUP_BYTES", 100)
    monkeypatch.setattr(reading, "_BATCH", batch)
    texts = [f"document {number} " + "x" * (number + 1) for number in range(80)]
    read_unit(tmp_path, source(files(tmp_path, 5), lambda _: iter(texts)))
    unit = json.loads((tmp_path / "unit.json").read_text())
    found = [Shard(tmp_path / f"{number:05d}") for number in range(len(unit["shards"]))]
    assert len(found) > 3
    assert [text for shard in found for text in shard.texts()] == texts
    assert all(each["bytes"] < 1_100 for each in unit["shards"])
    for shard in found:
        mine = list(shard.texts())
        assert sum(len(text) for text in mine[:-1]) < 1_000  # full by its last one
        for chosen in ([], [0], [len(mine) - 1], list(range(0, len(mine), 3))):
            assert list(shard.texts(np.array(chosen, int))) == [mine[place] for place in chosen]


def test_shards_are_numbered_as_their_first_documents_come_however_many_are_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 200)
    rows = [Record(f"{n} " + "x" * (7 * n % 50), f"d/{n * n % 7}") for n in range(100)]
    made = []
    for batch in (1, 90, 10_000):
        monkeypatch.setattr(reading, "_BATCH", batch)
        folder = tmp_path / str(batch)
        folder.mkdir()
        read_unit(folder, source(files(tmp_path, 5), lambda _: iter(rows)))
        unit = json.loads((folder / "unit.json").read_text())
        shards_ = [Shard(folder / f"{number:05d}") for number in range(len(unit["shards"]))]
        made.append((unit, [list(shard.texts()) for shard in shards_]))
    assert made[0] == made[1] == made[2]
    assert len(made[0][1]) > 10


def test_memory_is_bounded_over_all_shards_that_are_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_WAITING", 400)
    monkeypatch.setattr(reading, "_BATCH", 100)
    held: list[int] = []
    add = reading._Shards.add  # pyright: ignore[reportPrivateUsage]

    def watched(self: Any, *args: Any) -> None:
        add(self, *args)
        held.append(sum(writer.waiting_bytes for _, writer in self._open.values()))

    monkeypatch.setattr(reading._Shards, "add", watched)  # pyright: ignore[reportPrivateUsage]
    rows = [Record("x" * 50, f"d{number % 20}") for number in range(200)]
    read_unit(tmp_path, source(files(tmp_path, 5), lambda _: iter(rows)))
    assert 200 < max(held) <= 400 + 400 // 4 + 50
    assert sum(len(Shard(tmp_path / f"{n:05d}").hashes) for n in range(20)) == 200


def index_of(tmp_path: Path, *sources: Source):
    units = []
    for number, each in enumerate(sources):
        folder = tmp_path / f"unit-{number}"
        folder.mkdir()
        read_unit(folder, each)
        units.append((number, f"key-{number}", folder))
    write_index(tmp_path / "index.jsonl", units)
    return read_index(tmp_path / "index.jsonl", sources)


def test_records_of_two_sources_share_a_domain_where_role_and_component_agree(
    tmp_path: Path,
) -> None:
    def reads(*domains: str) -> Any:
        return lambda _: iter([Record(f"text of {each}", each) for each in domains])

    paths = files(tmp_path, 1)
    found = index_of(
        tmp_path,
        source(paths, reads("b", "a")),
        source(paths, reads("a", "c"), name="second"),
        source(paths, reads("a"), name="third", role="curated", component="books"),
    )
    assert [(each.name, each.role) for each in found.domains] == [
        ("a", "pool"), ("b", "pool"), ("c", "pool"), ("a-curated", "curated"),
    ]  # fmt: skip
    assert [found.domains[shard.domain].name for shard in found.shards] == [
        "b", "a", "a", "c", "a-curated",
    ]  # fmt: skip
    assert found.of_domain(0) == [1, 2]
    assert found.of_role("curated") == [4]


def test_a_source_of_too_many_bad_records_is_refused_with_the_first_and_the_way_out(
    tmp_path: Path,
) -> None:
    paths = files(tmp_path, 1)
    good = source(paths, lambda _: iter(RECORDS), max_bad_share=0.4)
    assert index_of(tmp_path, good).bad == [{"not JSON": 3}]
    with pytest.raises(UserError, match=r"max_bad_share=0.3 .*3 not JSON; the first is a:3"):
        read_index(tmp_path / "index.jsonl", [replace(good, max_bad_share=0.3)])


def test_more_domains_than_a_byte_tells_are_refused(tmp_path: Path) -> None:
    rows = [Record("text", f"d{number}") for number in range(256)]
    with pytest.raises(UserError, match="256 domains; give at most 255"):
        index_of(tmp_path, source(files(tmp_path, 1), lambda _: iter(rows)))
