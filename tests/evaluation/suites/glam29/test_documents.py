"""Data sets in a folder, and on the hub."""

import datasets
import pytest

from glam.evaluation.harness import MissingDataError
from glam.evaluation.suites.glam29.benchmark import Data
from glam.evaluation.suites.glam29.documents import Documents, read

PLAIN = Data("house/set", None, "test", "train")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "house" / "set" / "default"
    place.mkdir(parents=True)
    (place / "test.jsonl").write_text('{"text": "é"}\n{"text": "two"}\n', encoding="utf-8")
    (place / "train.jsonl").write_text('{"text": "three"}\n')
    return place


def test_a_folder_has_a_file_for_each_split(folder, tmp_path):
    judged, drawn = read(PLAIN, tmp_path)
    assert [row["text"] for row in judged] == ["é", "two"]
    assert [row["text"] for row in drawn] == ["three"]


def test_parquet_will_do(folder, tmp_path):
    (folder / "test.jsonl").unlink()
    datasets.Dataset.from_list([{"text": "four", "parts": [[1], []]}]).to_parquet(
        folder / "test.parquet"
    )
    judged = Documents(read(PLAIN, tmp_path)[0])
    assert list(judged) == [{"text": "four", "parts": [[1], []]}]
    assert judged.features == {"text": None, "parts": None}


@pytest.mark.parametrize("place", ["data", "plain_text", "."])
def test_so_will_parts_where_the_hub_has_them(folder, tmp_path, place):
    (folder / "test.jsonl").unlink()
    home = folder.parent / place
    home.mkdir(exist_ok=True)
    for n in (1, 0):
        part = home / f"test-0000{n}-of-00002.parquet"
        datasets.Dataset.from_list([{"text": f"part {n}"}]).to_parquet(part)
    assert [row["text"] for row in read(PLAIN, tmp_path)[0]] == ["part 0", "part 1"]


def test_a_configuration_has_its_own_folder(folder, tmp_path):
    (folder.parent / "other").mkdir()
    for split in ("test", "train"):
        (folder.parent / "other" / f"{split}.jsonl").write_text('{"text": "other"}\n')
    judged, _ = read(Data("house/set", "other", "test", "train"), tmp_path)
    assert [row["text"] for row in judged] == ["other"]
    with pytest.raises(MissingDataError, match=r"third/test\.jsonl"):
        read(Data("house/set", "third", "test", "train"), tmp_path)


def test_a_split_that_serves_both_is_read_once(folder, tmp_path):
    judged, drawn = read(Data("house/set", None, "test", "test"), tmp_path)
    assert judged is drawn


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "neither .*default/test.jsonl nor test.parquet is there"),
        ("", "split test is empty"),
        ('{"a": 1}\n{"a"', "line 2"),
        ("[1]\n", "line 1 is no mapping"),
        (b"\xff\n", "cannot be read"),
    ],
)
def test_a_file_that_will_not_do_is_named(folder, tmp_path, content, words):
    file = folder / "test.jsonl"
    file.unlink()
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MissingDataError, match=words):
        read(PLAIN, tmp_path)


def test_a_damaged_parquet_file_is_named(folder, tmp_path):
    (folder / "test.jsonl").unlink()
    (folder / "test.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(MissingDataError, match=r"test\.parquet cannot be read"):
        read(PLAIN, tmp_path)


def test_items_are_made_of_rows():
    found = Documents(
        [{"n": 2}, {"n": 1}], lambda rows: ({"m": m} for r in rows for m in range(r["n"]))
    )
    assert list(found) == [{"m": 0}, {"m": 1}, {"m": 0}]
    assert found[1:] == [{"m": 1}, {"m": 0}]
    assert len(found) == 3


def test_the_hub_is_asked_for_the_split_and_the_revision(monkeypatch):
    asked = []

    def answer(*of, **options):
        asked.append((of, options))
        return datasets.Dataset.from_list([{"text": "far"}])

    monkeypatch.setattr(datasets, "load_dataset", answer)
    monkeypatch.setattr("glam.evaluation.harness.hub_is_reached", lambda: True)
    judged, _ = read(Data("house/set", "one", "test", "train", "refs/x"), None)
    assert list(Documents(judged)) == [{"text": "far"}]
    assert asked == [
        (("house/set", "one"), {"split": split, "revision": "refs/x"})
        for split in ("test", "train")
    ]


def test_a_set_that_the_hub_has_not_is_missing(monkeypatch):
    def refuse(*of, **options):
        raise datasets.exceptions.DatasetNotFoundError("no such set")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr("glam.evaluation.harness.hub_is_reached", lambda: True)
    with pytest.raises(MissingDataError, match="house/set"):
        read(PLAIN, None)
