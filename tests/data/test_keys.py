"""What names a cached stage, by property: every field that its content follows from changes its
name, and no other field does."""

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from config_fields import keys, with_value

from glam.config import DataConfig, LocalCorpusConfig, Source
from glam.data import PreparedData, documents, pipeline, prepare
from glam.data.cache import Cache
from glam.data.documents import documents_key
from glam.data.hashing import digest
from glam.data.pipeline import Pipeline

STAGES = {"documents", "tokenizer", "tokens", "quality"}
# The stages that follow from each field. A field that is added is missed here by name.
TEXT = STAGES - {"documents"}
FOLLOWS = {
    "vocab_size": {"tokenizer", "tokens"},
    "tokenizer_megabytes": {"tokenizer", "tokens"},
    "held_out_fraction": TEXT,
    "page_characters": TEXT,
    "seed": TEXT,
    "corpus.name": set(),  # says which class the rest of it is
    "corpus.files": STAGES,
    "corpus.curated": STAGES,
    "corpus.held_out": TEXT,  # the same documents, on another side
    "corpus.text_field": STAGES,
    "filter.num_features": {"quality"},
    "filter.ngrams": {"quality"},
    "filter.folds": {"quality"},
    "filter.model": {"quality"},
    "filter.scores": set(),
    "tokenizer": {"tokenizer", "tokens"},
    # Which of the scored pages are kept is chosen anew every time.
    "filter.name": set(),
    "filter.alpha": set(),
    "filter.threshold": set(),
    "filter.calibrate": set(),
    "left_out": set(),
    # Who does the work.
    "executor": set(),
    "workers": set(),
    **{f"slurm.{field.name}": set() for field in fields(DataConfig().slurm)},
    **{f"ray.{field.name}": set() for field in fields(DataConfig().ray)},
    # Copies are told between reading and splitting.
    **{f"dedup.{field.name}": set() for field in fields(DataConfig().dedup)},
    **{f"mixture.{field.name}": set() for field in fields(DataConfig().mixture)},
}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The names of all stages of a configuration, of which none is made. A tokenizer's vocabulary
    is another wherever its stage is."""
    made: dict[str, set[str]] = {}

    def stage(self: Cache, name: str, inputs: dict[str, Any], build: Any) -> Path:
        made.setdefault(name, set()).add(digest(inputs))
        return Path(digest(inputs))

    monkeypatch.setattr(Cache, "stage", stage)
    monkeypatch.setattr(documents, "Documents", lambda folder: folder)
    monkeypatch.setattr(pipeline, "read_quality", lambda folder: folder)
    monkeypatch.setattr(pipeline, "given_model", Path)
    monkeypatch.setattr(pipeline, "file_digest", str)
    monkeypatch.setattr(pipeline, "given_classifier", lambda config: config.model)
    monkeypatch.setattr(pipeline, "fingerprint", str)

    def of(data: DataConfig, vocab_size: int = 400) -> dict[str, set[str]]:
        made.clear()
        monkeypatch.setattr(
            pipeline.tokenizing,
            "Tokenizer",
            lambda folder: SimpleNamespace(fingerprint=str(folder), vocab_size=vocab_size),
        )
        running = Pipeline(data, vocab_size, tmp_path)
        _ = running.documents, running.tokenizer, running.quality
        for index in range(len(running.sources)):
            running.encoded(index)
        return dict(made)

    return of


def others(data: DataConfig, tmp_path: Path) -> dict[str, Any]:
    """For each key that has no number or name to alter, another value."""
    corpus = data.corpus
    assert isinstance(corpus, LocalCorpusConfig)
    more, good = tmp_path / "more.jsonl", tmp_path / "good.jsonl"
    for path in (more, good):
        path.write_text('{"text": "a"}\n{"text": "b"}\n')
    return {
        "corpus.files": [*corpus.files, str(more)],
        "corpus.curated": [*corpus.curated, str(good)],
        "corpus.held_out": [f"{corpus.files[0]}/chats.jsonl"],
        "left_out": ["posts"],
        "filter.model": "a/classifier",
        "filter.scores": "published",
        "tokenizer": "a.model",
        "corpus.name": "local",
        "dedup.near": False,
        "dedup.threshold": 0.8,
        "filter.name": "threshold",
    }


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if value is None or isinstance(value, dict):
        return 1 if value is None else {"a": 1}
    return value + ("x" if isinstance(value, str) else 1)


def test_the_names_of_stages_follow_from_what_decides_their_content_and_from_nothing_else(
    data: DataConfig, names: Any, tmp_path: Path
) -> None:
    before, values = names(data), others(data, tmp_path)
    assert before.keys() == STAGES
    found = {"vocab_size": names(data, vocab_size=401)}
    for key in keys(data):
        value: Any = data
        for part in key.split("."):
            value = getattr(value, part)
        found[key] = names(with_value(data, key, values[key] if key in values else another(value)))
    assert {
        key: {stage for stage in STAGES if stages[stage] != before[stage]}
        for key, stages in found.items()
    } == FOLLOWS
    # A name that two fields changed to one would take the one's content for the other's.
    for stage in STAGES:
        asked = [key for key in FOLLOWS if stage in FOLLOWS[key]]
        assert len({frozenset(found[key][stage]) for key in asked}) == len(asked)


@pytest.mark.parametrize(
    ("version", "stages"),
    [
        ("glam.data.documents._VERSION", STAGES),
        ("glam.data.pipeline.splitting.VERSION", TEXT),
        ("glam.data.pipeline.paging.VERSION", TEXT),
        ("glam.data.pipeline.tokenizing.VERSION", {"tokenizer", "tokens"}),
        ("glam.data.pipeline.encoding.VERSION", {"tokens"}),
        ("glam.data.pipeline.QUALITY_VERSION", {"quality"}),
    ],
)
def test_a_new_version_of_a_step_renames_the_stages_that_it_makes(
    version: str, stages: set[str], data: DataConfig, names: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(data)
    monkeypatch.setattr(version, 99)
    after = names(data)
    assert {stage for stage in STAGES if before[stage] != after[stage]} == stages


def test_documents_are_named_by_all_that_they_follow_from_and_not_by_their_place(
    tmp_path: Path,
) -> None:
    def source(folder: str, text: str = "one", **changes: Any) -> Source:
        file = tmp_path / folder / "a.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        given = {"name": "a", "role": "pool", "component": "books", "reader_name": "local:text"}
        return Source(files=(file,), reader=lambda paths: iter([]), **{**given, **changes})

    one = documents_key(source("here"))
    assert documents_key(source("there")) == one
    assert documents_key(source("here", component="news", role="curated")) == one
    changed = [
        source("edited", text="two"),  # as long
        source("here", name="b"),
        source("here", reader_name="local:body"),
    ]
    assert len({one, *map(documents_key, changed)}) == 4


def served(prepared: PreparedData) -> list[Any]:
    """All that training reads, in plain values."""
    return [
        prepared.tokenizer.fingerprint,
        prepared.sources,
        [np.asarray(part).tolist() for c in prepared.components for part in c.parts],
        [
            [c.name, c.weight, *(x.tolist() for x in (c.sources, c.part, c.starts, c.lengths))]
            for c in prepared.components
        ],
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("filter.name", "none"),
        ("filter.name", "threshold"),
        ("filter.alpha", 3.0),
        ("filter.calibrate", False),
        ("filter.threshold", 0.3),  # which pareto does not read
        ("filter.folds", 3),
        ("filter.ngrams", 1),
        ("mixture.books", 0.5),
        ("mixture.news", 0.5),  # which the corpus lacks
        ("left_out", ["posts"]),
        ("seed", 1),
        ("page_characters", 200),
        ("held_out_fraction", 0.2),
        ("tokenizer_megabytes", 0.05),
    ],
)
def test_the_datas_fingerprint_changes_if_and_only_if_what_is_trained_on_does(
    key: str, value: Any, data: DataConfig, cache: Path, prepared: PreparedData
) -> None:
    again = prepare(with_value(data, key, value), 400, cache)
    assert (again.fingerprint == prepared.fingerprint) == (served(again) == served(prepared))


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_scores_are_their_ranks_within_the_pool_where_they_are_calibrated(
    threshold: float, data: DataConfig, cache: Path
) -> None:
    """Of ranks, a threshold keeps its share of the pool; of raw scores, those that are higher."""
    for calibrate in (True, False):
        chosen = replace(data.filter, name="threshold", threshold=threshold, calibrate=calibrate)
        config = replace(data, filter=chosen)
        scores = np.concatenate(list(Pipeline(config, 400, cache).quality.scores.values()))
        rows = [row for row in prepare(config, 400, cache).funnel if row["role"] == "pool"]
        kept = sum(row["documents"] for row in rows if row["step"] == "kept")
        ranks = np.array([np.mean(scores < one) + np.mean(scores <= one) for one in scores]) / 2
        assert kept == np.sum((ranks if calibrate else scores) > threshold)
