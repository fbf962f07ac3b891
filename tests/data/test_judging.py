"""The classifier against its slow definition: one plain fit for each fold, on the other folds."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from glam.config import FilterConfig
from glam.data.classifier_file import CARD, FOLDER, README, load_classifier
from glam.data.hashing import document_hash
from glam.data.judging import write_given_quality, write_quality
from glam.data.pages import PagedSource, paged
from glam.data.quality import read_quality

CONFIG = FilterConfig(num_features=4096, folds=3)
FORMAL = [a + b for a in ("ver", "con", "pro") for b in ("atum", "ition", "ence")]
SLANG = [a + b for a in ("lol", "gr8", "omg") for b in ("z", "xx", "yo")]


def source(name: str, special: list[str], documents: int) -> PagedSource:
    def texts() -> Iterator[str]:
        for i in range(documents):
            rng = random.Random(f"{name} {i}")
            yield " ".join(rng.choice([*special, "and", "the"]) for _ in range(40 + 20 * i))

    hashes = np.array([document_hash(text) for text in texts()], np.uint64)
    return paged(name, hashes, texts, limit=200)


CURATED = [source("laws", FORMAL, 6), source("epics", FORMAL, 5)]
LICENSES = {"laws": "public domain"}
POOL = [source("posts", SLANG, 7), source("chats", FORMAL + SLANG, 8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quality")
    write_quality(path, CONFIG, CURATED, POOL, 0, LICENSES)
    return path


def folds(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "folds.npz") as file:
        return {name: file[f"a{i}"] for i, name in enumerate(file["names"])}


def test_pages_of_a_document_share_a_fold_and_every_fold_has_documents(folder: Path) -> None:
    for pool in POOL:
        mine = folds(folder)[pool.name]
        for owner in np.unique(pool.owners):
            assert len(set(mine[pool.owners == owner].tolist())) == 1
        assert set(mine.tolist()) == set(range(CONFIG.folds))


def test_a_page_is_scored_by_a_classifier_that_never_saw_its_document(folder: Path) -> None:
    vectorizer = HashingVectorizer(n_features=4096, ngram_range=(1, 2), dtype=np.float32)
    scores = read_quality(folder).scores
    for fold in range(CONFIG.folds):
        good, web = ([text for each in kind for text in texts_of(each, folder, fold, False)]
                     for kind in (CURATED, POOL))  # fmt: skip
        judge = LogisticRegression(solver="liblinear", class_weight="balanced")
        judge.fit(vectorizer.transform(good + web), [1] * len(good) + [0] * len(web))
        for pool in POOL:
            slow = judge.predict_proba(vectorizer.transform(texts_of(pool, folder, fold, True)))
            mine = scores[pool.name][folds(folder)[pool.name] == fold]
            np.testing.assert_allclose(mine, slow[:, 1], atol=1e-5)


def texts_of(pages: PagedSource, folder: Path, fold: int, inside: bool) -> list[str]:
    dealt = folds(folder)[pages.name]
    return [text for text, f in zip(pages.texts(), dealt, strict=True) if (f == fold) == inside]


def test_the_auc_tells_formal_from_slang(folder: Path) -> None:
    quality = read_quality(folder)
    assert 0.5 < quality.auc <= 1
    assert quality.scores["posts"].mean() < quality.scores["chats"].mean()


def test_equal_input_gives_equal_scores(folder: Path, tmp_path: Path) -> None:
    write_quality(tmp_path, CONFIG, CURATED, POOL, 0, LICENSES)
    again, before = read_quality(tmp_path), read_quality(folder)
    for name, scores in before.scores.items():
        np.testing.assert_array_equal(again.scores[name], scores)


def test_nothing_is_saved_that_needs_unpickling(folder: Path) -> None:
    files = {path for path in folder.rglob("*") if path.is_file()}
    assert {path.suffix for path in files} == {".npz", ".json", ".safetensors", ".md"}
    for path in folder.glob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].dtype != object for name in file.files)
    json.loads((folder / "quality.json").read_text())


def test_the_card_tells_what_the_classifier_was_trained_on(folder: Path) -> None:
    card = json.loads((folder / FOLDER / CARD).read_text())
    assert (card["num_features"], card["ngrams"], card["folds"]) == (4096, 2, 3)
    assert card["auc"] == read_quality(folder).auc
    told = [(row["source"], row["role"], row["documents"], row["license"])
            for row in card["trained_on"]]  # fmt: skip
    assert told == [
        ("laws", "curated", 6, "public domain"), ("epics", "curated", 5, ""),
        ("posts", "pool", 7, ""), ("chats", "pool", 8, ""),
    ]  # fmt: skip
    readme = (folder / FOLDER / README).read_text()
    pages = len(CURATED[0].hashes)
    assert f"| laws | curated | 6 | {pages} | public domain |" in readme
    assert f"{card['auc']:.4f}" in readme


def test_a_classifier_that_is_given_scores_pages_by_the_mean_of_its_folds(
    folder: Path, tmp_path: Path
) -> None:
    write_given_quality(tmp_path, load_classifier(folder), POOL)
    given = read_quality(tmp_path)
    assert given.auc is None
    with safe_open(folder / FOLDER / "classifier.safetensors", "numpy") as file:
        weights, bias = file.get_tensor("weights"), file.get_tensor("bias")
        scale = 2.0 ** -load_classifier(folder).exponent
    vectorizer = HashingVectorizer(n_features=4096, ngram_range=(1, 2))
    for pool in POOL:
        logits = vectorizer.transform(pool.texts()) @ weights.mean(0) * scale + bias.mean()
        slow = 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(given.scores[pool.name], slow, atol=1e-5)
