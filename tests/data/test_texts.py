"""The text of both sides, as it is before tokens."""

import json
from pathlib import Path

import numpy as np
import pytest

from glam.config import DataConfig, FilterConfig
from glam.data import PreparedData, Texts, prepare
from glam.data.texts import _common_limit  # pyright: ignore[reportPrivateUsage]

ALL = 10**9


@pytest.fixture(scope="module")
def texts(prepared: PreparedData) -> Texts:
    assert prepared.texts is not None
    return prepared.texts


def test_held_out_text_is_what_the_held_out_tokens_encode(
    prepared: PreparedData, texts: Texts
) -> None:
    found = texts.held_out(ALL, ALL)
    assert list(found) == prepared.domains
    for domain, encoded in prepared.held_out.items():
        tokens = (encoded.document(i)[1:].tolist() for i in range(len(encoded)))
        assert found[domain] == [prepared.tokenizer.decode(each) for each in tokens]


def test_training_text_is_all_that_is_not_held_out_whatever_the_filter_keeps(
    prepared: PreparedData, texts: Texts, corpus
) -> None:
    held_out = {text for each in texts.held_out(ALL, ALL).values() for text in each}
    everything = [
        json.loads(line)["text"]
        for folder in (*corpus.files, *corpus.curated)
        for path in Path(folder).iterdir()
        for line in path.read_text().splitlines()
    ]
    found = list(texts.training(ALL))
    assert set(found) | held_out == {" ".join(text.split(" ")) for text in everything}
    assert not set(found) & held_out


def test_the_key_is_that_of_the_text_and_no_filters(
    data: DataConfig, cache: Path, texts: Texts
) -> None:
    unfiltered = DataConfig(**{**vars(data), "filter": FilterConfig(name="none")})
    other = DataConfig(**{**vars(data), "seed": data.seed + 1})
    keys = [prepare(one, 400, cache).texts for one in (unfiltered, other)]
    assert keys[0] is not None
    assert keys[0].key == texts.key
    assert keys[1] is not None
    assert keys[1].key != texts.key


def test_limits_are_kept_and_cut_the_longest_documents_first(texts: Texts) -> None:
    whole = texts.held_out(ALL, ALL)
    part = texts.held_out(300, 2)
    for domain, documents in part.items():
        assert len(documents) == min(2, len(whole[domain]))
        assert sum(map(len, documents)) <= 300
        originals = [text for text in whole[domain] if text.startswith(tuple(documents))]
        assert len(originals) == len(documents)
        numbers = texts.held_out_numbers(2)[domain]
        assert all(
            whole[domain][number].startswith(text)
            for number, text in zip(numbers, documents, strict=True)
        )
    some = sum(map(len, texts.training(20_000)))
    assert 10_000 < some < 30_000 < sum(map(len, texts.training(ALL)))


def test_a_common_limit_is_the_greatest_that_fits() -> None:
    draws = np.random.default_rng(0)
    for _ in range(50):
        sizes, total = draws.integers(1, 50, 8), int(draws.integers(1, 500))
        limit = _common_limit(sizes, total)
        assert np.minimum(sizes, limit).sum() <= total
        assert limit == sizes.max() or np.minimum(sizes, limit + 1).sum() > total
    assert _common_limit(np.array([], np.int64), 5) == 0
