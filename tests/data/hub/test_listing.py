"""What of a data set is read is what `datasets` reads, asked for once."""

import hashlib
import io
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fake_hub import COMMIT, FakeHub, FakeRepo, Fault

from glam.config import HubCorpusConfig
from glam.data.hub import hub_sources
from glam.data.hub.listing import listed
from glam.errors import UserError

Chosen = Callable[..., HubCorpusConfig]
CARD = {
    "license": "odc-by",
    "configs": [
        {"config_name": "en", "data_files": [{"split": "train", "path": "en/*"}], "default": True},
        {
            "config_name": "de",
            "data_files": [
                {"split": "train", "path": ["de/train-*.parquet"]},
                {"split": "test", "path": "de/test-*"},
                {"split": "empty", "path": "de/none-*"},
            ],
        },
        {"config_name": "inside", "data_dir": "en"},
    ],
}


def parquet(*texts: str) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": list(texts), "id": range(len(texts))}), buffer)
    return buffer.getvalue()


@pytest.fixture
def wiki(hub: FakeHub) -> FakeHub:
    files = {
        "README.md": f"---\n{yaml.safe_dump(CARD)}---\n# A card".encode(),
        **{f"en/{i}.jsonl": b'{"text": "e%d"}\n' % i for i in range(3)},
        **{f"de/train-{i}.parquet": parquet(f"d{i}") for i in range(2)},
        "de/test-0.parquet": parquet("t"),
    }
    hub.repos["some/wiki"] = FakeRepo(files, CARD)
    return hub


@pytest.fixture
def plain(hub: FakeHub) -> FakeHub:
    """Without a card: what is read follows from the names of files."""
    names = ["data/train-0.jsonl", "data/train-1.jsonl", "data/test-0.jsonl", "data/train-2.csv"]
    hub.repos["some/wiki"] = FakeRepo(dict.fromkeys(names, b'{"text": "a"}\n'))
    return hub


@pytest.fixture
def chosen(tmp_path: Path) -> Chosen:
    def choose(**keys: Any) -> HubCorpusConfig:
        return HubCorpusConfig(
            datasets=[{"repo": "some/wiki", **keys}],
            folder=str(tmp_path / "hub"),
            retry_seconds=0.001,
            timeout_seconds=5,
        )

    return choose


def paths(corpus: HubCorpusConfig) -> list[str]:
    [dataset] = corpus.chosen()
    _, listing = listed(dataset, corpus)
    return [file.path for file in listing.files]


@pytest.mark.parametrize(
    ("keys", "files"),
    [
        ({}, ["en/0.jsonl", "en/1.jsonl", "en/2.jsonl"]),
        ({"configuration": "de"}, ["de/train-0.parquet", "de/train-1.parquet"]),
        ({"configuration": "de", "split": "test"}, ["de/test-0.parquet"]),
        ({"configuration": "inside"}, ["en/0.jsonl", "en/1.jsonl", "en/2.jsonl"]),
        ({"files": "**/*0.jsonl"}, ["en/0.jsonl"]),
    ],
)
def test_a_part_of_a_data_set_is_the_files_that_its_card_names(
    wiki: FakeHub, chosen: Chosen, keys: dict[str, Any], files: list[str]
) -> None:
    assert paths(chosen(**keys)) == files


@pytest.mark.parametrize("configuration", ["en", "de", "inside"])
def test_it_is_what_datasets_would_load(
    wiki: FakeHub, chosen: Chosen, configuration: str, tmp_path: Path
) -> None:
    from datasets import load_dataset_builder

    builder = load_dataset_builder("some/wiki", configuration, cache_dir=str(tmp_path / "cache"))
    theirs = [path.partition(f"@{COMMIT}/")[2] for path in builder.config.data_files["train"]]
    assert paths(chosen(configuration=configuration)) == sorted(theirs)


@pytest.mark.parametrize("split", ["train", "test"])
def test_without_a_card_too(plain: FakeHub, chosen: Chosen, split: str, tmp_path: Path) -> None:
    from datasets import load_dataset_builder

    builder = load_dataset_builder("some/wiki", cache_dir=str(tmp_path / "cache"))
    theirs = [path.partition(f"@{COMMIT}/")[2] for path in builder.config.data_files[split]]
    assert paths(chosen(split=split)) == sorted(theirs)


def test_sizes_and_hashes_are_listed_and_nothing_is_fetched(wiki: FakeHub, chosen: Chosen) -> None:
    files = wiki.repos["some/wiki"].files
    [source] = hub_sources(chosen(configuration="de"))
    content = [files[f"de/train-{i}.parquet"] for i in range(2)]
    assert source.file_sizes() == tuple(len(each) for each in content)
    assert source.content == tuple(hashlib.sha256(each).hexdigest() for each in content)
    assert (source.license, source.origin) == ("odc-by", f"hf://datasets/some/wiki@{COMMIT}")
    # Of the first one, what is in it: the table at its end.
    assert [line.partition(" bytes=")[0][-18:] for line in wiki.fetched()] == ["de/train-0.parquet"]


def test_the_hub_is_asked_once_and_the_commit_stays(wiki: FakeHub, chosen: Chosen) -> None:
    before = paths(chosen())
    wiki.requests.clear()
    wiki.repos["some/wiki"].files["en/3.jsonl"] = b""
    assert paths(chosen()) == before
    assert wiki.requests == []


def test_processes_that_start_together_ask_once(wiki: FakeHub, chosen: Chosen) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: paths(chosen()), range(4)))
    assert found == [["en/0.jsonl", "en/1.jsonl", "en/2.jsonl"]] * 4
    assert sorted(wiki.requests) == sorted(set(wiki.requests))


def test_a_listing_that_is_damaged_is_made_again(wiki: FakeHub, chosen: Chosen) -> None:
    corpus = chosen()
    place, listing = listed(corpus.chosen()[0], corpus)
    place.write_text('{"version": 1, "files"')
    assert listed(corpus.chosen()[0], corpus) == (place, listing)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_refuses_six_times_is_asked_again(
    wiki: FakeHub, chosen: Chosen, status: int
) -> None:
    wiki.api_faults.extend([Fault(status, {"Retry-After": "0"})] * 6)
    assert len(paths(chosen())) == 3


def test_a_hub_that_is_silent_is_asked_again(wiki: FakeHub, chosen: Chosen) -> None:
    wiki.api_faults.append(Fault("hang"))
    corpus = chosen()
    corpus.timeout_seconds = 0.2
    assert len(paths(corpus)) == 3


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"repo": "some/wike"}, "some/wike: there is no such data set on http://.*hf auth login"),
        ({"revision": "mian"}, "there is no revision 'mian'; did you mean main?"),
        ({"configuration": "dee"}, "there is no configuration 'dee'; did you mean de?"),
        ({"configuration": "de", "split": "tets"}, "no split 'tets'; did you mean test?"),
        ({"configuration": "de", "split": "empty"}, "split 'empty' has no files of text at commit"),
        (
            {"configuration": "de", "text_field": "tekst"},
            "no column 'tekst', which text_field names; did you mean text?",
        ),
        (
            {"configuration": "de", "score_field": "text.score"},
            r"no column 'text.score', which score_field names",
        ),
        ({"files": "fr/*"}, r"fr/\* has no files of text"),
        ({"repo": "../.."}, r"^data.corpus.datasets: ../.. names no data set; give owner/name"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(
    wiki: FakeHub, chosen: Chosen, keys: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says) as refused:
        hub_sources(chosen(**keys))
    assert "\n" not in str(refused.value)


def test_a_gated_data_set_says_how_to_log_in(wiki: FakeHub, chosen: Chosen) -> None:
    wiki.repos["some/wiki"].gated = True
    with pytest.raises(UserError, match=r"is gated; accept its terms at http.*hf auth login"):
        hub_sources(chosen())


def test_several_configurations_without_a_default_are_asked_for(
    wiki: FakeHub, chosen: Chosen
) -> None:
    wiki.repos["some/wiki"].card = {"configs": CARD["configs"][1:]}
    with pytest.raises(UserError, match="choose one with configuration=: de, inside"):
        hub_sources(chosen())


def test_without_a_network_what_is_listed_goes_on_working(
    wiki: FakeHub, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = paths(chosen())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    assert paths(chosen()) == before
    with pytest.raises(UserError, match=f"{nowhere} cannot be reached .* needs no network"):
        hub_sources(chosen(split="test"))


def test_the_hubs_own_offline_switch_is_obeyed(
    wiki: FakeHub, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        hub_sources(chosen())
    assert wiki.requests == []
