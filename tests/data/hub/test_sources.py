"""Data sets as sources: chosen on the command line, limited, prepared."""

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from fake_hub import COMMIT, FakeHub, FakeRepo
from hydra import compose, initialize_config_dir

from glam.composition.overrides import CONF
from glam.composition.schema import register, to_run_config
from glam.config import COMPONENTS, DataConfig, HubCorpusConfig, HubDataset, Record
from glam.data import prepare
from glam.data.hub import hub_sources
from glam.data.hub.listing import HubFile
from glam.data.hub.sources import within_limits
from glam.errors import UserError

FILES = tuple(HubFile(path=f"{i}.parquet", size=10**9, sha=str(i)) for i in range(100))


def drawn(**limits: Any) -> list[int]:
    return within_limits(FILES, HubDataset(repo="a/b", **limits))


def test_a_limit_draws_files_from_everywhere_and_a_larger_one_adds_to_them() -> None:
    few, more = drawn(limit_gb=10), drawn(limit_files=30)
    assert (len(few), len(more)) == (10, 30)
    assert set(few) < set(more)
    assert few == sorted(few)
    assert max(few) - min(few) > 50
    assert drawn(limit_gb=0.1) == drawn(limit_files=1)
    assert drawn() == list(range(100))
    assert len(drawn(limit_gb=20, limit_files=7)) == len(drawn(limit_gb=7, limit_files=20)) == 7


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (
            {"repo": "a/b", "text_feeld": "x"},
            r"datasets\[0\]: there is no key 'text_feeld'; did you mean text_field",
        ),
        ({"repo": "b"}, r"datasets\[0\].repo=b names no data set; give owner/name"),
        ({"text_field": "x"}, r"datasets\[0\].repo=None names no data set"),
        ({"repo": "a/b", "role": "web"}, r"datasets\[0\].role='web' is not known"),
        (
            {"repo": "a/b", "component": "book"},
            r"component='book' is not known; did you mean books",
        ),
        ({"repo": "a/b", "limit_gb": -1}, r"limit_gb=-1 must be positive"),
        ({"repo": "a/b", "limit_files": 1.5}, r"limit_files=1.5: .* valid integer"),
        ({"repo": "a/b", "files": "*", "configuration": "c"}, "both choose files of a/b"),
        (3, r"datasets\[0\]=3 must be keys and values"),
    ],
)
def test_an_item_that_is_wrong_is_refused_by_its_key(item: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        HubCorpusConfig(datasets=[item])


def test_two_of_a_name_are_told_apart_by_the_user() -> None:
    with pytest.raises(UserError, match=r"2 of them are called 'b'.*name: b-2"):
        HubCorpusConfig(datasets=["a/b", "c/b"])
    both = HubCorpusConfig(datasets=["a/b", {"repo": "c/b", "name": "other"}])
    assert [one.domain_name for one in both.chosen()] == ["b", "other"]


def test_only_some_of_them_can_be_read() -> None:
    corpus = HubCorpusConfig(datasets=["a/b", "c/d"], only=["d"])
    assert [one.repo for one in corpus.chosen()] == ["c/d"]
    corpus.only = ["e"]
    with pytest.raises(UserError, match=r"data.corpus.only: 'e' is not listed; choose from b, d"):
        corpus.chosen()


@pytest.mark.parametrize("datasets", [[], [{"repo": "a/b", "role": "held_out"}]])
def test_a_corpus_needs_text_to_train_on(datasets: list[Any]) -> None:
    with pytest.raises(UserError, match=r"leaves nothing to train on; add 'data.corpus.datasets="):
        hub_sources(HubCorpusConfig(datasets=datasets))


def test_a_limit_of_the_corpus_holds_for_each() -> None:
    corpus = HubCorpusConfig(
        datasets=["a/b", {"repo": "a/c", "limit_gb": 1}, {"repo": "a/d", "limit_gb": 9}], limit_gb=2
    )
    assert [one.limit_gb for one in corpus.chosen()] == [2, 1, 2]


def test_there_is_a_choice_for_each_component_and_each_has_a_licence_and_a_commit() -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        corpus = to_run_config(compose("config", ["data/corpus=hub_paper"])).data.corpus
    assert isinstance(corpus, HubCorpusConfig)
    chosen = corpus.chosen()
    assert {one.component for one in chosen} == set(COMPONENTS)
    assert all(one.license and one.revision and one.limit_gb for one in chosen)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.zst", "a.json.gz", "a.json", "a.csv"])
def test_files_of_each_kind_are_read(hub: FakeHub, tmp_path: Path, name: str) -> None:
    rows = [{"doc": f"one {i}", "of": "x" if i % 2 else "y", "good": i} for i in range(4)]
    hub.repos["some/text"] = FakeRepo({f"data/train-{name}": packed(rows, name)})
    item = {"repo": "some/text", "text_field": "doc", "domain_field": "of", "score_field": "good"}
    [source] = hub_sources(HubCorpusConfig(datasets=[item], folder=str(tmp_path / "hub")))
    with source.here([0]) as paths:
        found = list(source.reader(paths))
    assert found == [Record(row["doc"], row["of"], row["good"]) for row in rows]


def packed(rows: list[dict[str, Any]], name: str) -> bytes:
    """A file of rows, as its suffixes say."""
    table = pa.Table.from_pylist(rows)
    buffer = io.BytesIO()
    if name.endswith(".parquet"):
        pq.write_table(table, buffer)
        return buffer.getvalue()
    if name.endswith(".csv"):
        pa_csv.write_csv(table, buffer)
        return buffer.getvalue()
    whole = json.dumps(rows) if ".json" in name else ""
    if name != "a.json":
        whole = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".gz"):
        return gzip.compress(whole.encode())
    return pa.compress(whole.encode(), "zstd", asbytes=True) if ".zst" in name else whole.encode()


def test_a_data_set_without_text_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos["some/text"] = FakeRepo({"data/train-0.jsonl": b'{"text": ""}\n' * 3})
    corpus = HubCorpusConfig(datasets=["some/text"], folder=str(tmp_path / "hub"))
    data = DataConfig(corpus=corpus)
    data.filter.name = "none"
    with pytest.raises(UserError, match=r"data\.corpus"):
        prepare(data, 320, tmp_path / "cache")


def test_a_field_that_no_line_has_is_refused_with_the_nearest(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos["some/text"] = FakeRepo({"data/train-0.jsonl": b'{"text": "a"}\n' * 3})
    item = {"repo": "some/text", "text_field": "tekst"}
    data = DataConfig(corpus=HubCorpusConfig(datasets=[item], folder=str(tmp_path / "hub")))
    data.filter.name = "none"
    with pytest.raises(UserError, match=r"no field 'tekst'.*did you mean text\?"):
        prepare(data, 320, tmp_path / "cache")


def test_a_hub_is_prepared_as_local_text_is_and_once(hub: FakeHub, tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(300)]
    for repo in ("some/web", "some/books"):
        lines = [" ".join(rng.choices(words, k=80)) for _ in range(60)]
        parts = {f"data/train-{i}.jsonl": lines[20 * i : 20 * i + 20] for i in range(3)}
        files = {
            name: "".join(json.dumps({"text": line}) + "\n" for line in part).encode()
            for name, part in parts.items()
        }
        hub.repos[repo] = FakeRepo(files, {"license": "cc0-1.0"})
    corpus = HubCorpusConfig(
        datasets=["some/web", {"repo": "some/books", "component": "books", "role": "unfiltered"}],
        folder=str(tmp_path / "hub"),
    )
    data = DataConfig(corpus=corpus, tokenizer_megabytes=1.0)
    data.filter.name = "none"
    first = prepare(data, 320, tmp_path / "cache")
    read = {row["source"]: row["documents"] for row in first.funnel if row["step"] == "read"}
    assert read == {"web": 60, "books": 60}
    assert first.origins[0] == {
        "name": "books",
        "license": "cc0-1.0",
        "origin": f"hf://datasets/some/books@{COMMIT}",
    }
    hub.requests.clear()
    again = prepare(data, 320, tmp_path / "cache")
    assert (again.fingerprint, hub.requests) == (first.fingerprint, [])
    assert not list((tmp_path / "hub").rglob("*.jsonl"))
