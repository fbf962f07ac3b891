"""The quality filter's stages against their slow definition: one plain fit for each fold, on the
other folds; and one ranking of all documents for the folds."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from made_shards import pages_of
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from glam.config import FilterConfig
from glam.data import judging
from glam.data.classifier_file import CARD, FOLDER, README, TrainedOn, load_classifier
from glam.data.hashing import uniform
from glam.data.judging import (
    QUALITY,
    Deal,
    write_card,
    write_classifier,
    write_given_scores,
    write_pool_ranks,
    write_published_scores,
    write_scores,
)
from glam.data.pages import Pages
from glam.data.quality import read_ranks

CONFIG = FilterConfig(num_features=4096, folds=3)
FORMAL = [a + b for a in ("ver", "con", "pro") for b in ("atum", "ition", "ence")]
SLANG = [a + b for a in ("lol", "gr8", "omg") for b in ("z", "xx", "yo")]
TRAINED_ON = [
    TrainedOn(source="laws", role="curated", documents=6, pages=31, license="public domain"),
    TrainedOn(source="chats", role="pool", documents=8, pages=1234, license=""),
]


def texts(name: str, special: list[str], documents: int) -> list[str]:
    draws = [random.Random(f"{name} {i}") for i in range(documents)]
    return [
        " ".join(rng.choice([*special, "and", "the"]) for _ in range(40 + 20 * i))
        for i, rng in enumerate(draws)
    ]


class Judged:
    """Two curated shards and two of the pool, judged."""

    def __init__(self, root: Path, sources: Path) -> None:
        self.classifier, self.ranks = root / "classifier", root / "ranks"
        made = {
            "laws": (FORMAL, 6),
            "epics": (FORMAL, 5),
            "posts": (SLANG, 7),
            "chats": (FORMAL + SLANG, 8),
        }
        shards = [
            pages_of(sources / name, texts(name, *of), 200)
            if not (sources / name).exists()
            else Pages(sources / name / "pages", sources / name / "shard", 200)
            for name, of in made.items()
        ]
        self.curated, self.pool = shards[:2], shards[2:]
        for path in (self.classifier, self.ranks):
            path.mkdir()
        write_classifier(self.classifier, CONFIG, self.curated, self.pool, 0)
        self.scores: list[np.ndarray] = []
        for i, pages in enumerate(self.pool):
            (root / str(i)).mkdir()
            write_scores(root / str(i), pages, self.classifier, 0)
            self.scores.append(np.load(root / str(i) / "scores.npy"))
        ranks = write_pool_ranks(self.ranks, [root / "0", root / "1"])
        write_card(self.ranks, self.classifier, ranks, TRAINED_ON, 0)

    def folds(self, shards: list[Pages], pages: Pages) -> np.ndarray:
        """The slow definition: the parity of a document's rank among all of its class."""
        every = np.unique(np.concatenate([each.owners for each in shards]))
        ranks = np.argsort(np.argsort(uniform(every, 0, "folds"))) % CONFIG.folds
        return ranks[np.searchsorted(every, pages.owners)]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return Judged(tmp_path_factory.mktemp("judged"), tmp_path_factory.mktemp("sources"))


def test_pages_of_a_document_share_a_fold_and_every_fold_has_documents(judged: Judged) -> None:
    dealt = Deal.read(judged.classifier / "pool.npy", CONFIG.folds, 0)
    for pages in judged.pool:
        mine = dealt.of(pages.owners)
        np.testing.assert_array_equal(mine, judged.folds(judged.pool, pages))
        assert set(mine.tolist()) == set(range(CONFIG.folds))


def test_folds_of_many_documents_follow_from_their_draws_alone(
    judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "MANY", 10)
    dealt = Deal.of_class(judged.pool, 2, seed=3)
    assert dealt.documents is None
    owners = judged.pool[1].owners
    np.testing.assert_array_equal(dealt.of(owners), uniform(owners, 3, "folds") >= 0.5)


def test_a_page_is_scored_by_a_classifier_that_never_saw_its_document(judged: Judged) -> None:
    vectorizer = HashingVectorizer(n_features=4096, ngram_range=(1, 2), dtype=np.float32)
    kinds = (judged.curated, judged.pool)
    for fold in range(CONFIG.folds):
        good, web = (
            [
                text
                for pages in kind
                for text, f in zip(pages.texts(), judged.folds(kind, pages), strict=True)
                if f != fold
            ]
            for kind in kinds
        )
        judge = LogisticRegression(solver="liblinear", class_weight="balanced")
        judge.fit(vectorizer.transform(good + web), [1] * len(good) + [0] * len(web))
        for pages, scores in zip(judged.pool, judged.scores, strict=True):
            mine = judged.folds(judged.pool, pages) == fold
            texts = list(pages.texts(np.flatnonzero(mine)))
            slow = judge.predict_proba(vectorizer.transform(texts))
            np.testing.assert_allclose(scores[mine], slow[:, 1], atol=1e-5)


def test_the_auc_tells_formal_from_slang(judged: Judged) -> None:
    assert 0.5 < json.loads((judged.ranks / QUALITY).read_text())["auc"] <= 1
    assert judged.scores[0].mean() < judged.scores[1].mean()


def test_ranks_are_of_the_pages_of_all_shards(judged: Judged) -> None:
    everything = np.concatenate(judged.scores)
    ranks = read_ranks(judged.ranks).rank(judged.scores[1])
    slow = [((everything < x).mean() + (everything <= x).mean()) / 2 for x in judged.scores[1]]
    np.testing.assert_allclose(ranks, slow)


def test_nothing_is_saved_that_needs_unpickling(judged: Judged) -> None:
    files = [p for f in (judged.classifier, judged.ranks) for p in f.rglob("*") if p.is_file()]
    assert {path.suffix for path in files} == {".npy", ".npz", ".json", ".safetensors", ".md"}
    for path in files:
        if path.suffix in (".npz", ".npy"):
            np.load(path, allow_pickle=False)


def test_the_card_tells_what_the_classifier_was_trained_on(judged: Judged) -> None:
    card = json.loads((judged.ranks / FOLDER / CARD).read_text())
    assert (card["num_features"], card["ngrams"], card["folds"]) == (4096, 2, 3)
    assert card["auc"] == json.loads((judged.ranks / QUALITY).read_text())["auc"]
    assert [row["source"] for row in card["trained_on"]] == ["laws", "chats"]
    readme = (judged.ranks / FOLDER / README).read_text()
    assert "| laws | curated | 6 | 31 | public domain |" in readme
    assert "| chats | pool | 8 | 1,234 | not known |" in readme
    assert f"{card['auc']:.4f}" in readme


def test_a_classifier_that_is_given_scores_pages_by_the_mean_of_its_folds(
    judged: Judged, tmp_path: Path
) -> None:
    write_given_scores(tmp_path, judged.pool[1], judged.ranks / FOLDER)
    given = load_classifier(judged.ranks / FOLDER)
    weights = given.weights.mean(0) * 2.0**-given.exponent
    vectorizer = HashingVectorizer(n_features=4096, ngram_range=(1, 2))
    logits = vectorizer.transform(judged.pool[1].texts()) @ weights + given.bias.mean()
    np.testing.assert_allclose(
        np.load(tmp_path / "scores.npy"), 1 / (1 + np.exp(-logits)), atol=1e-5
    )


def test_published_scores_are_those_of_a_pages_document_and_none_come_last(
    tmp_path: Path,
) -> None:
    pages = pages_of(tmp_path / "a", ["word " * 60, "other " * 10, "third"], 200)
    np.save(tmp_path / "a" / "shard" / "scores.npy", np.array([3.5, np.nan, -1.0]))
    write_published_scores(tmp_path, pages, tmp_path / "a" / "shard")
    assert np.load(tmp_path / "scores.npy").tolist() == [3.5, 3.5, -np.inf, -1.0]
    ranks = write_pool_ranks(tmp_path, [tmp_path])
    assert ranks.rank(np.load(tmp_path / "scores.npy")).tolist() == [0.75, 0.75, 0.125, 0.375]
