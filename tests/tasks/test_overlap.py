"""Training text without what overlaps with the sets of `evaluation`."""

import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glam.config import (
    ContaminationConfig,
    DataConfig,
    EvaluationConfig,
    FilterConfig,
    LocalCorpusConfig,
    ModelConfig,
    RunConfig,
)
from glam.data import PreparedData
from glam.data.cache import Cache
from glam.data.contamination import EvaluationItem, EvaluationItems
from glam.errors import UserError
from glam.evaluation.suites import SUITES, LoadedSuite, Suite
from glam.tasks.overlap import clean_held_out, overlap_of_text, say_overlap
from glam.tasks.prepare import prepared_text

DOCUMENTS = 80
ASKED = 30  # a document that is trained on, of which the item is


def phrase(number: int, words: int) -> str:
    draw = random.Random(number)
    return " ".join("".join(draw.choices("abcdefghij", k=5)) for _ in range(words))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Every document has fifteen words in common with the one before it."""
    home = tmp_path_factory.mktemp("home")
    lines = [
        json.dumps({"text": f"{phrase(i, 15)}. {phrase(1000 + i, 40)}. {phrase(i + 1, 15)}"})
        for i in range(DOCUMENTS)
    ]
    (home / "web.jsonl").write_text("\n".join(lines))
    return RunConfig(
        model=ModelConfig(vocab_size=300),
        data=DataConfig(
            corpus=LocalCorpusConfig(files=[str(home / "web.jsonl")]),
            filter=FilterConfig(name="none"),
            contamination=ContaminationConfig(remove=True),
            held_out_fraction=0.1,
        ),
        evaluation=EvaluationConfig(name="held_out"),
        cache_dir=str(home / "cache"),
    )


def test_what_a_run_tells_of_its_text_is_looked_for_beside_the_tokenizer(
    asked: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    told = replace(asked.data, contamination=ContaminationConfig())
    config = replace(asked, data=told, cache_dir=str(tmp_path))
    prepared = prepared_text(config)
    monkeypatch.delattr(Cache, "_make")  # nothing is left to make
    assert overlap_of_text(config, prepared) is not None


def trained_on(prepared: PreparedData) -> int:
    [rows] = [row["documents"] for row in prepared.funnel if row["step"] == "kept"]
    return rows


def shared_by_chain(held_out: list[str]) -> int:
    """Documents that have a phrase in common with one that is held out."""
    numbers = {i for i in range(DOCUMENTS) for text in held_out if phrase(1000 + i, 40) in text}
    neighbours = {n for i in numbers for n in (i - 1, i + 1) if 0 <= n < DOCUMENTS}
    return len(neighbours - numbers)


def test_held_out_documents_alone_are_removed_for_where_there_is_no_suite(asked: RunConfig):
    prepared = prepared_text(asked)
    assert prepared.texts is not None
    [held_out] = prepared.texts.held_out(10**9, 10**9).values()
    removed = shared_by_chain(held_out)
    assert removed > 5
    assert trained_on(prepared) == DOCUMENTS - len(held_out) - removed


class Toy(Suite):
    name = "toy"
    missing: dict[str, str] = {}  # noqa: RUF012

    def load(self, evaluation: EvaluationConfig, prepared: Any) -> LoadedSuite:
        task: Any = SimpleNamespace(get_config={"num_fewshot": 0}.get)
        return LoadedSuite(name="toy", tasks={"one": task}, missing=self.missing)

    def items(self, loaded: LoadedSuite) -> EvaluationItems:
        return EvaluationItems.of("toy", [EvaluationItem("one", 0, (phrase(1000 + ASKED, 40),))])


@pytest.fixture
def toy(asked: RunConfig, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setitem(SUITES._classes, "toy", Toy)  # pyright: ignore[reportPrivateUsage]
    return replace(asked, evaluation=EvaluationConfig(name="toy"))


def test_items_of_a_suite_that_brings_its_own_data_are_removed_too(
    asked: RunConfig, toy: RunConfig
):
    few = replace(asked.data, held_out_fraction=0.01)
    without = prepared_text(replace(asked, data=few))
    assert trained_on(without) - trained_on(prepared_text(replace(toy, data=few))) == 1


def test_a_task_whose_items_are_missing_is_named_and_what_leaves_it_out(
    toy: RunConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Toy, "missing", {"two": "its data is not there"})
    with pytest.raises(UserError, match=r"two is left out: its data.*evaluation.tasks=\[one\]"):
        prepared_text(toy)


def test_preparation_says_how_many_items_of_every_set_overlap(
    toy: RunConfig, caplog: pytest.LogCaptureFixture
):
    config = replace(toy, data=replace(toy.data, contamination=ContaminationConfig()))
    say_overlap(config, prepared_text(config))
    assert "toy: 1 of 1 items" in caplog.text
    assert "held_out: " in caplog.text


def test_of_a_large_pool_what_is_removed_is_not_encoded(
    asked: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The same pages as of a small pool."""
    curated = tmp_path / "books.jsonl"
    curated.write_text("\n".join(json.dumps({"text": phrase(5000 + i, 60)}) for i in range(30)))
    corpus = replace(asked.data.corpus, curated=[str(curated)])
    filtering = FilterConfig(alpha=1.0, num_features=256)
    data = replace(asked.data, corpus=corpus, filter=filtering)

    def kept() -> tuple[list[Any], int]:
        prepared = prepared_text(replace(asked, data=data))
        sizes = [row for row in prepared.funnel if row["step"] in ("without overlap", "kept")]
        return [
            [row[key] for key in ("source", "step", "documents", "characters")] for row in sizes
        ], sum(component.num_tokens for component in prepared.components)

    small = kept()
    monkeypatch.setattr("glam.data.pipeline.SHARD_BYTES", 1)
    assert kept() == small
    assert np.sum([row[2] for row in small[0]]) > 0


def test_the_clean_loss_is_of_held_out_documents_that_training_shares_nothing_with(
    asked: RunConfig,
) -> None:
    config = replace(asked, data=replace(asked.data, contamination=ContaminationConfig()))
    prepared = prepared_text(config)
    assert prepared.texts is not None
    [(domain, clean)] = clean_held_out(config, prepared).items()
    trained = set(prepared.texts.training(10**9))
    for text, is_clean in zip(prepared.texts.held_out(10**9, 10**9)[domain], clean, strict=True):
        ends = (text.split(". ")[0], text.split(". ")[2])  # shared with its neighbours
        assert is_clean == (not any(end in other for end in ends for other in trained))
    assert (~clean).sum() > 0
    silent = replace(config.data, contamination=ContaminationConfig(report=False))
    assert clean_held_out(replace(config, data=silent), prepared) == {}
