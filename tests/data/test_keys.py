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
from glam.data import PreparedData, divided, pipeline, prepare
from glam.data.cache import Cache
from glam.data.digests import Digests
from glam.data.documents import unit_key
from glam.data.hashing import digest
from glam.data.index import Domain, Index, ShardEntry
from glam.data.pipeline import Pipeline

STAGES = {
    *("documents", "signatures", "copies", "sides", "funnel", "pages"),
    *("tokenizer", "classifier", "scores", "ranks", "tokens"),
}
# The stages that follow from each field. A field that is added is missed here by name.
TOLD = STAGES - {"documents", "signatures"}
DIVIDED = TOLD - {"copies"}
PAGED = DIVIDED - {"sides"}
JUDGED = {"classifier", "scores", "ranks"}
FOLLOWS = {
    "vocab_size": {"tokenizer", "tokens"},
    "tokenizer_megabytes": {"tokenizer", "tokens"},
    "held_out_fraction": DIVIDED,
    "page_characters": PAGED,
    "seed": DIVIDED,
    "corpus.name": set(),  # says which class the rest of it is
    "corpus.files": STAGES,
    "corpus.curated": STAGES,
    "corpus.held_out": TOLD,  # the same documents, on another side
    "corpus.text_field": STAGES,
    "corpus.domain_field": STAGES,
    "corpus.score_field": STAGES,
    "corpus.max_record_megabytes": STAGES,
    "corpus.max_bad_share": set(),  # text is refused or as it is
    "filter.num_features": JUDGED,
    "filter.ngrams": JUDGED,
    "filter.folds": JUDGED,
    # Which of the scored pages are kept is chosen anew every time.
    "filter.name": set(),
    "filter.alpha": set(),
    "filter.threshold": set(),
    "filter.calibrate": set(),
    "filter.model": JUDGED,
    "filter.scores": JUDGED,
    "tokenizer": {"tokenizer", "tokens"},
    "left_out": set(),
    # What is left out for its overlap is named by `Pipeline.removed`.
    "contamination.remove": set(),
    "contamination.report": set(),
    # Who does the work.
    "executor": set(),
    "workers": set(),
    **{f"slurm.{field.name}": set() for field in fields(DataConfig().slurm)},
    **{f"ray.{field.name}": set() for field in fields(DataConfig().ray)},
    "dedup.near": TOLD | {"signatures"},  # which there are none of then
    "dedup.bands": TOLD | {"signatures"},
    "dedup.rows": TOLD | {"signatures"},
    "dedup.ngram": TOLD | {"signatures"},
    "dedup.threshold": TOLD,
    **{f"mixture.{field.name}": set() for field in fields(DataConfig().mixture)},
}


@pytest.fixture(params=["small", "large"])
def pool(request: pytest.FixtureRequest) -> str:
    """Of a large pool only kept pages are encoded."""
    return request.param


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pool: str) -> Any:
    """The names of all stages of a configuration, of which none is made: each unit is one shard. A
    tokenizer's vocabulary is another wherever its stage is."""
    made: dict[str, set[str]] = {}

    def stage(self: Cache, name: str, inputs: dict[str, Any], build: Any) -> Path:
        made.setdefault(name, set()).add(digest(inputs))
        return Path(digest(inputs))

    def run_stage(_: Any, cache: Cache, name: str, tasks: Any, *words: str) -> list[Path]:
        return [stage(cache, name, task.inputs, None) for task in tasks]

    monkeypatch.setattr(Cache, "stage", stage)
    monkeypatch.setattr(divided, "run_stage", run_stage)
    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    monkeypatch.setattr(divided, "write_copies", lambda *_: None)
    monkeypatch.setattr(LocalCorpusConfig, "has_scores", True)
    monkeypatch.setattr(pipeline, "given_model", Path)
    monkeypatch.setattr(pipeline, "file_digest", str)
    monkeypatch.setattr(pipeline, "given_classifier", lambda config: config.model)
    monkeypatch.setattr(pipeline, "fingerprint", str)

    def of(data: DataConfig, vocab_size: int = 400) -> dict[str, set[str]]:
        made.clear()
        monkeypatch.setattr(
            pipeline.tokenizing,
            "Tokenizer",
            lambda folder: SimpleNamespace(
                fingerprint=str(folder), vocab_size=vocab_size, folder=folder
            ),
        )
        running = Pipeline(data, vocab_size, tmp_path)
        vars(running).update(index=index_of(running, pool), counts=[], executor=None)
        _ = running.copies, running.sides, running.tokenizer, running.tokens
        _ = running._judge, running.scores, running.ranks  # pyright: ignore[reportPrivateUsage]
        if data.removes_near_copies:
            running._write_copies(tmp_path)  # pyright: ignore[reportPrivateUsage]
        made["funnel"] = {digest(running._funnel_inputs)}  # pyright: ignore[reportPrivateUsage]
        return dict(made)

    return of


def index_of(running: Pipeline, pool: str) -> Index:
    domains = [
        Domain(name=each.name, role=each.role, component=each.component, source=number)
        for number, each in enumerate(running.sources)
    ]
    size = 10**9 if pool == "large" else 1
    shards = [
        ShardEntry(
            unit=i, number=0, key=u.key, domain=u.number, documents=1, characters=1, bytes=size
        )
        for i, u in enumerate(running.units)
    ]
    return Index(domains=domains, shards=shards, records=[])


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
        "corpus.name": "local",
        "dedup.near": False,
        "filter.name": "threshold",
        "filter.model": "a/classifier",
        "filter.scores": "published",
        "tokenizer": "a.model",
        "dedup.threshold": 0.8,
        "executor": "ray",
    }


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if value is None or isinstance(value, dict):
        return 1 if value is None else {"a": 1}
    return value + ("x" if isinstance(value, str) else 1)


def test_the_names_of_stages_follow_from_what_decides_their_content_and_from_nothing_else(
    data: DataConfig, names: Any, tmp_path: Path, pool: str
) -> None:
    before, values = names(data), others(data, tmp_path)
    assert before.keys() == STAGES
    found = {"vocab_size": names(data, vocab_size=401)}
    for key in keys(data):
        value: Any = data
        for part in key.split("."):
            value = getattr(value, part)
        found[key] = names(with_value(data, key, values[key] if key in values else another(value)))
    chosen = [key for key in FOLLOWS if key.startswith("filter.") and pool == "large"]
    follows = FOLLOWS | {key: FOLLOWS[key] | {"tokens"} for key in chosen}
    assert {
        key: {stage for stage in STAGES if stages.get(stage) != before[stage]}
        for key, stages in found.items()
    } == follows
    # A name that two fields changed to one would take the one's content for the other's.
    for stage in STAGES:
        asked = [key for key in follows if stage in follows[key]]
        assert len({frozenset(found[key].get(stage, ())) for key in asked}) == len(asked)


@pytest.mark.parametrize("pool", ["small"], indirect=True)
@pytest.mark.parametrize(
    ("version", "stages"),
    [
        ("glam.data.documents.VERSION", STAGES),
        ("glam.data.split.VERSION", DIVIDED),
        ("glam.data.pages.VERSION", PAGED),
        ("glam.data.tokenizer.VERSION", {"tokenizer", "tokens"}),
        ("glam.data.tokens.VERSION", {"tokens"}),
        ("glam.data.pipeline.QUALITY_VERSION", JUDGED),
    ],
)
def test_a_new_version_of_a_step_renames_the_stages_that_it_makes(
    version: str, stages: set[str], data: DataConfig, names: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(data)
    monkeypatch.setattr(version, 99)
    after = names(data)
    assert {stage for stage in STAGES if before[stage] != after[stage]} == stages


@pytest.mark.parametrize("changes", [{"role": "held_out"}, {"component": "wikipedia"}])
def test_the_role_and_the_component_of_what_is_read_name_its_copies(
    changes: dict[str, Any], data: DataConfig, tmp_path: Path
) -> None:
    """Even where its place among the sources stays."""
    running = Pipeline(data, 400, tmp_path)
    before = running._copies_inputs  # pyright: ignore[reportPrivateUsage]
    unit = running.units[0]
    running.units[0] = replace(unit, source=replace(unit.source, **changes))
    assert running._copies_inputs != before  # pyright: ignore[reportPrivateUsage]


def test_documents_are_named_by_all_that_they_follow_from_and_not_by_their_place(
    tmp_path: Path,
) -> None:
    def source(folder: str, text: str = "one", **changes: Any) -> Source:
        file = tmp_path / folder / "a.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        given = {"name": "a", "role": "pool", "component": "books", "reader_name": "local:text"}
        return Source(files=(file,), reader=lambda paths: iter([]), **{**given, **changes})

    def key(source: Source) -> str:
        return unit_key(source, Digests())

    one = key(source("here"))
    assert key(source("there")) == one
    assert key(source("here", component="news", role="curated")) == one
    changed = [
        source("edited", text="two"),  # as long
        source("here", name="b"),
        source("here", reader_name="local:body"),
    ]
    assert len({one, *map(key, changed)}) == 4


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
