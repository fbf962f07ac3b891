"""Small corpora of made-up words: formal ones teach the filter, web-like ones pass it."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from glam.config import DataConfig, LocalCorpusConfig
from glam.data import PreparedData, prepare

sys.path.append(str(Path(__file__).parent))  # made_shards.py

VOCAB = 400
COMMON = [a + b for a in ("ka", "lo", "mi", "ne", "tu", "sa") for b in ("r", "n", "st", "l", "m")]
FORMAL = [a + b for a in ("ver", "con", "pro", "ex") for b in ("atum", "ition", "ence", "ate")]
SLANG = [a + b for a in ("lol", "u", "gr8", "#") for b in ("z", "xx", "yo", "4")]


def make_text(seed: str, words: int, special: list[str]) -> str:
    rng = random.Random(seed)
    chosen = [rng.choice(special if rng.random() < 0.3 else COMMON) for _ in range(words)]
    return " ".join(f"{word}\n" if rng.random() < 0.05 else word for word in chosen).strip()


def write_corpus(root: Path) -> LocalCorpusConfig:
    """Two curated domains and two web-like ones; web pages are part formal, part slang."""
    for folder, domains in {"curated": ("laws", "epics"), "web": ("posts", "chats")}.items():
        (root / folder).mkdir(parents=True)
        for domain in domains:
            with (root / folder / f"{domain}.jsonl").open("w") as file:
                for i in range(60):
                    formal = folder == "curated" or i % 3 == 0
                    seed = f"{domain} {i}"
                    length = random.Random(seed).randint(10, 300)
                    text = make_text(seed, length, FORMAL if formal else SLANG)
                    file.write(json.dumps({"text": f"{text} Ünïcode ☃ {i}"}) + "\n")
    return LocalCorpusConfig(files=[str(root / "web")], curated=[str(root / "curated")])


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> LocalCorpusConfig:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def data(corpus: LocalCorpusConfig) -> DataConfig:
    # alpha is low, so that even this small pool has kept pages of each source.
    config = DataConfig(corpus=corpus, page_characters=300, tokenizer_megabytes=1.0)
    config.filter.alpha = 2.0
    return config


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def prepared(data: DataConfig, cache: Path) -> PreparedData:
    return prepare(data, VOCAB, cache)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write_text(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_text
