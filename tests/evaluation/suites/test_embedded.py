"""Items of held-out text, on a made-up language that a tiny model learns in seconds: each of five
domains has its own nouns, words agree, and some words have one successor."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from glam.analysis.tasks import above_chance, is_above_chance
from glam.config import EvaluationConfig, ModelConfig
from glam.data.cache import Cache
from glam.data.tokenizer import Tokenizer, train_tokenizer
from glam.evaluation.judge import run_suite
from glam.evaluation.language_model import GlamLM
from glam.evaluation.suites import SUITES
from glam.evaluation.suites.embedded import forms, items
from glam.evaluation.suites.embedded.forms import Item
from glam.evaluation.suites.embedded.stretches import Domain, spread
from glam.model import Glam

DOMAINS = ("farm", "sea", "town", "court", "stars")
NOUNS = {
    name: [first + last for first in parts for last in ("ma", "lo", "net", "ri")]
    for name, parts in zip(
        DOMAINS, (("ba", "go"), ("si", "wu"), ("te", "pa"), ("ju", "le"), ("zo", "xa")), strict=True
    )
}
ADJECTIVES = ("old", "new", "red", "good", "small", "great", "dark", "warm")


def sentence(draws: random.Random, nouns: list[str]) -> str:
    noun, other = draws.sample(nouns, 2)
    adjective = draws.choice(ADJECTIVES)
    return draws.choice(
        (
            f"This {noun} is {adjective} with respect to every {other} of them.",
            f"All these {noun}s are {adjective} and they were {draws.choice(ADJECTIVES)} before.",
            f"According to him the {noun} was {adjective} at first.",
            f"Then we saw that {noun}s were there and that they have a {other}.",
        )
    )


def document(seed: str, domain: str, sentences: int = 12) -> str:
    draws = random.Random(seed)
    return " ".join(sentence(draws, NOUNS[domain]) for _ in range(sentences))


class MadeUp:
    """Texts as a preparation gives them."""

    key = "made up"

    def __init__(self, cache: Path, domains: tuple[str, ...] = DOMAINS, documents: int = 30):
        self.cache, self.domains, self.documents = Cache(cache, 0), domains, documents

    def held_out(self, characters: int, documents: int) -> dict[str, list[str]]:
        return {
            name: [document(f"held out {name} {n}", name) for n in range(self.documents)]
            for name in self.domains
        }

    def training(self, characters: int) -> Iterator[str]:
        for name in self.domains:
            yield from (document(f"train {name} {n}", name) for n in range(100))


@pytest.fixture(scope="module", autouse=True)
def fewer_items() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "ITEMS", 100)
        patch.setattr(forms, "FUNCTION_WORDS", 2)
        yield


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    return MadeUp(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def made(texts: MadeUp) -> items.Items:
    return items.make_items(texts)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tokenizer(texts: MadeUp, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, texts.training(0), 300)
    return Tokenizer(folder)


def test_every_form_has_its_items_from_every_domain(made: items.Items) -> None:
    assert list(made.tasks) == list(items.FORMS)
    assert made.missing == {}
    for name, found in made.tasks.items():
        of = Counter(item.domain for item in found)
        assert set(of) == set(DOMAINS), name
        assert len(found) == 100, name
        assert len({item.document for item in found}) > 10, name  # spread over documents


def right(item: Item) -> str:
    return item.choices[item.answer]


def test_the_right_choice_is_held_out_text_and_no_wrong_one_follows_its_context(
    made: items.Items, texts: MadeUp
) -> None:
    documents = texts.held_out(0, 0)
    for name, found in made.tasks.items():
        for item in found:
            text = documents[item.domain][item.document]
            assert item.context + right(item) in text, name
            for wrong in set(range(len(item.choices))) - {item.answer}:
                assert item.choices[wrong] != right(item), name
                if not item.context:
                    assert item.choices[wrong] not in text, name


def test_wrong_choices_differ_in_what_the_form_asks_for_alone(made: items.Items) -> None:
    for item in made.tasks["word_order"]:
        first, second = (choice.split() for choice in item.choices)
        assert sorted(first) == sorted(second)
        assert sum(a != b for a, b in zip(first, second, strict=True)) == 2
    for item in made.tasks["agreement"]:
        [(a, b)] = {(a, b) for a, b in zip(*map(str.split, item.choices), strict=True) if a != b}
        assert {a, b} in [set(pair) for pair in forms.PAIRS]
    for item in made.tasks["domain"]:
        for at, choice in enumerate(item.choices):
            owners = {name for name in DOMAINS if any(noun in choice for noun in NOUNS[name])}
            assert (item.domain in owners) == (at == item.answer) or not owners


def test_both_directions_of_a_pair_are_equally_many(made: items.Items) -> None:
    """So that a model which always prefers one of two words is right in half of the items."""
    directions: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for item in made.tasks["agreement"]:
        words = right(item).split(), item.choices[1 - item.answer].split()
        [(good, bad)] = {(a, b) for a, b in zip(*words, strict=True) if a != b}
        directions[item.domain, *sorted((good, bad))][good] += 1  # type: ignore[index]
    assert all(len(set(each.values())) == 1 and len(each) == 2 for each in directions.values())


def test_a_completion_is_what_training_text_says_and_no_word_answers_many(
    made: items.Items, texts: MadeUp
) -> None:
    follows: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for text in texts.training(0):
        words = text.split()
        for first, second, third in zip(words, words[1:], words[2:], strict=False):
            follows[first, second][third] += 1
    for item in made.tasks["completion"]:
        [(word, count)] = follows[tuple(item.context.split()[-2:])].most_common(1)
        assert item.choices == [f" {word}"]
        assert count > 0.7 * follows[tuple(item.context.split()[-2:])].total()
    answers = Counter(item.choices[0] for item in made.tasks["completion"])
    share = max(answers.values()) / len(made.tasks["completion"])
    assert items.chance(made.tasks["completion"]) == share  # of whoever writes one word always
    assert [items.chance(made.tasks[name]) for name in ("domain", "agreement")] == [0.25, 0.5]


def test_other_domains_change_no_item_of_a_domain(made: items.Items, tmp_path: Path) -> None:
    fewer = items.make_items(MadeUp(tmp_path, DOMAINS[:2]))  # type: ignore[arg-type]
    mine = [item for item in made.tasks["word_order"] if item.domain == "sea"]
    assert [item for item in fewer.tasks["word_order"] if item.domain == "sea"][:5] == mine[:5]


def test_what_the_text_is_too_little_for_is_said_in_a_line(tmp_path: Path) -> None:
    found = items.make_items(MadeUp(tmp_path, DOMAINS[:2], documents=1))  # type: ignore[arg-type]
    assert found.missing["domain"] == "it needs 4 domains of held-out text, here are 2"
    assert "held-out text gives" in found.missing["continuation"]
    nothing = items.make_items(MadeUp(tmp_path, ()))  # type: ignore[arg-type]
    assert nothing.tasks == {}
    assert set(nothing.missing) == set(items.FORMS)


@pytest.mark.parametrize(
    "text",
    ["", "a", "...", "A" * 5000, "。これは長い文です" * 50, "One.\n\nTwo!\n" * 40, "\x85 " * 99],
)
def test_no_text_is_too_odd(text: str) -> None:
    domains = [Domain("odd", [text, text]), Domain("empty", [])]
    counts = forms.count_words(domains, iter([text]))
    for form in items.FORMS.values():
        form(domains, counts)


def test_items_are_made_once_and_again_where_they_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: Any = MadeUp(tmp_path)
    first = items.cached_items(texts)
    with monkeypatch.context() as patch:
        patch.setattr(items, "make_items", None)
        assert items.cached_items(texts) == first
    [folder] = tmp_path.glob("tasks-*")
    (folder / "items.json").write_text("{}")
    assert items.cached_items(texts) == first


def test_a_sample_takes_from_every_document_before_it_takes_a_second_time() -> None:
    found = [SimpleNamespace(document=n % 3, at=n) for n in range(30)]
    taken = spread(found, 7, random.Random(0))
    assert sorted(Counter(one.document for one in taken).values()) == [2, 2, 3]
    assert len({one.at for one in taken}) == 7


def model_of(tokenizer: Tokenizer, seed: int) -> Glam:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        num_layers=2,
        d_model=32,
        d_ff=64,
        num_heads=2,
        num_experts=4,
    )
    model = Glam(config)
    model.initialize(seed)
    return model.eval()


def judged(model: Glam, texts: MadeUp, tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    prepared: Any = SimpleNamespace(texts=texts)
    loaded = SUITES["embedded"]().load(EvaluationConfig(), prepared)
    lm = GlamLM(model, tokenizer, max_length=128)
    return {one.task: vars(one) for one in run_suite(lm, loaded).scores}


def train(model: Glam, texts: MadeUp, tokenizer: Tokenizer) -> None:
    stream = [tokenizer.bos]
    for text in texts.training(0):
        stream += [*tokenizer.encode(text), tokenizer.bos]
    tokens, length, rows = torch.tensor(stream), 48, 16
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    draws = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(STEPS):
        starts = torch.randint(len(tokens) - length - 1, (rows,), generator=draws)
        batch = tokens[starts[:, None] + torch.arange(length + 1)]
        model.loss(batch[:, :-1], batch[:, 1:]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


STEPS = 200


def test_a_trained_model_is_told_from_chance_on_most_and_an_untrained_one_on_none(
    texts: MadeUp, tokenizer: Tokenizer
) -> None:
    model = model_of(tokenizer, 0)
    told = [judged(model, texts, tokenizer)]
    told += [judged(model_of(tokenizer, seed), texts, tokenizer) for seed in range(1, 5)]
    for seed, tasks in enumerate(told):
        p_values = above_chance(tasks)
        assert set(p_values) == set(items.FORMS)
        assert not any(map(is_above_chance, p_values.values())), (seed, p_values)

    train(model, texts, tokenizer)

    tasks = judged(model, texts, tokenizer)
    assert sum(map(is_above_chance, above_chance(tasks).values())) >= 5, tasks
