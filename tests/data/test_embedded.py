"""The default corpora, prepared for real."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.config import DataConfig, EmbeddedCorpusConfig, FilterConfig
from glam.data import EMBEDDED, PreparedData, prepare
from glam.data.documents import text_fingerprint
from glam.data.pipeline import Pipeline
from glam.data.shards import Shard
from glam.data.sources import checked_sources

# In one process of the suite: the first preparation takes a minute.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("embedded")]

BEFORE = ("speeches", "scripture", "wikipedia", "reviews", "tweets")

COLD = """
import json, resource, sys
from pathlib import Path
from glam.config import DataConfig
from glam.data import prepare
prepare(DataConfig(), 2048, Path(sys.argv[1]))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"megabytes": used.ru_maxrss / 1e3}))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def cost(cache: Path) -> dict[str, Any]:
    """Of the first preparation, in a process of its own."""
    command = [sys.executable, "-c", COLD, str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def prepared(cache: Path, cost: dict[str, Any]) -> PreparedData:
    assert cost
    return prepare(DataConfig(), 2048, cache)


def test_the_first_preparation_takes_two_gigabytes_at_most(cost: dict[str, Any]) -> None:
    assert cost["megabytes"] < 2000


def test_every_other_preparation_reads_no_document_again(
    cache: Path, prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_again(*_: object) -> None:
        raise AssertionError("text was read again")

    monkeypatch.setattr(Shard, "batches", read_again)
    monkeypatch.setattr("glam.data.reading.read_unit", read_again)
    assert prepare(DataConfig(), 2048, cache).fingerprint == prepared.fingerprint


@pytest.mark.parametrize(
    ("data", "fingerprint"),
    [
        (DataConfig(), "216e268f09bdb163"),
        (DataConfig(filter=FilterConfig(calibrate=False)), "d99bcc7b09d8204f"),
        (DataConfig(filter=FilterConfig(name="threshold")), "1b4109e9f1299c42"),
        (DataConfig(filter=FilterConfig(name="none")), "a3d3c5b2828e5349"),
        (
            DataConfig(filter=FilterConfig(name="none"), left_out=["tweets"]),
            "7fcb2611fcf024c4",
        ),
    ],
)
def test_what_is_served_is_what_it_was(
    cache: Path, prepared: PreparedData, data: DataConfig, fingerprint: str
) -> None:
    """Losses that are published stand for these tokens."""
    assert prepared.text_fingerprint == "e03247c48b6045db"
    assert prepare(data, 2048, cache).fingerprint == fingerprint


def test_the_filter_keeps_an_eighth_and_rather_reviews_than_tweets(prepared: PreparedData) -> None:
    pages, kept = (
        {row["source"]: row["documents"] for row in prepared.funnel if row["step"] == step}
        for step in ("pages", "kept")
    )
    pool = ("reviews", "tweets")
    share = sum(kept[name] for name in pool) / sum(pages[name] for name in pool)
    assert share == pytest.approx((1 - 2**-8) / 8, rel=0.05)
    assert prepared.quality["kept_share"]["reviews"] > 3 * prepared.quality["kept_share"]["tweets"]
    assert prepared.quality["auc"] > 0.99


def test_every_domain_has_held_out_text_enough_to_measure(prepared: PreparedData) -> None:
    assert prepared.domains == [row.name for row in EMBEDDED]
    assert min(len(encoded.tokens) for encoded in prepared.held_out.values()) > 60_000


def test_scripture_carries_no_verse_numbers(prepared: PreparedData) -> None:
    held = prepared.held_out["scripture"]
    text = prepared.tokenizer.decode(held.tokens.tolist())
    assert not any(character.isdigit() for character in text)


def test_wikipedia_changes_nothing_that_is_learned(tmp_path: Path) -> None:
    """With it or without: the same tokenizer, the same scores, the same training tokens."""
    made: list[tuple[Pipeline, PreparedData]] = []
    for sources in (["scripture", "tweets"], ["scripture", "tweets", "wikipedia"]):
        data = DataConfig(corpus=EmbeddedCorpusConfig(sources=sources), tokenizer_megabytes=0.5)
        made.append((Pipeline(data, 600, tmp_path), prepare(data, 600, tmp_path)))
    (before, without), (after, with_it) = made
    assert without.tokenizer.fingerprint == with_it.tokenizer.fingerprint
    np.testing.assert_array_equal(before.quality.scores["tweets"], after.quality.scores["tweets"])
    for a, b in zip(without.components, with_it.components, strict=True):
        assert (a.name, a.weight) == (b.name, b.weight)
        np.testing.assert_array_equal(a.lengths, b.lengths)
        for mine, other in zip(a.parts, b.parts, strict=True):
            np.testing.assert_array_equal(mine, other)
    assert set(with_it.domains) - set(without.domains) == {"wikipedia"}


def test_what_is_neither_curated_nor_pool_changes_no_score(tmp_path: Path) -> None:
    """The pages that the filter kept before there were conversations, it keeps with them."""
    before, after = (
        Pipeline(DataConfig(corpus=EmbeddedCorpusConfig(sources=sources)), 600, tmp_path)
        for sources in (["scripture", "tweets"], ["scripture", "tweets", "conversations"])
    )
    np.testing.assert_array_equal(before.quality.scores["tweets"], after.quality.scores["tweets"])


def test_the_text_of_the_studies_before_is_there_still(cache: Path) -> None:
    """Of glam 0.3: losses that were published stand for these five sources."""
    corpus = EmbeddedCorpusConfig(sources=list(BEFORE))
    found = text_fingerprint(checked_sources(DataConfig(corpus=corpus)), cache)
    assert found == "3d8b5ad578a6b830"
