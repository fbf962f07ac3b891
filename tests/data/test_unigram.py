"""Text to tokens in C: exactly those that SentencePiece gives, whose library is the oracle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from glam.data import Tokenizer
from glam.data import unigram as kernel
from glam.data.given_tokenizer import import_tokenizer
from glam.data.tokenizer import MODEL, train_tokenizer
from glam.kernels import switched_off, text_library

pytestmark = pytest.mark.skipif(text_library() is None, reason="no C compiler here")
RNG = np.random.default_rng(0)
WORDS = ["walk", "walking", "walked", "talk", "it's", "--", "---", "!!!", "a", "the", "日本", "né"]
LETTERS = np.array(list("aeioudlnrst"))


def stem() -> str:
    return "".join(RNG.choice(LETTERS, RNG.integers(2, 12)))


SAMPLE = [" ".join([*RNG.choice(WORDS, 8), *(stem() for _ in range(8))]) for _ in range(900)]
SAMPLE = [text.replace("the ", "the\n") for text in SAMPLE]
OVER_SPACES = {"split_by_whitespace": False, "allow_whitespace_only_pieces": True}
LIKE: dict[str, dict[str, Any]] = {
    "with pieces over spaces": OVER_SPACES,
    "with spaces in rows": {"allow_whitespace_only_pieces": True},
    "with pieces that are always cut out": {"user_defined_symbols": ["\n\n", "<start>", "walk"]},
}
TEXT = st.lists(
    st.sampled_from([*WORDS, *(f" {word}" for word in WORDS), " ", "\n", "\u2581", "\u2585", "<s>"])
    | st.text(st.characters(codec="utf-8"), max_size=8),
    max_size=40,
).map("".join)


def given_like(folder: Path, **options: Any) -> Tokenizer:
    """A model of SentencePiece's own trainer."""
    plain = {"vocab_size": 900, "byte_fallback": True, "minloglevel": 3, "num_threads": 1,
             "normalization_rule_name": "identity"}  # fmt: skip
    sample = [text + "   " for text in SAMPLE]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sample), model_prefix=str(folder / "m"), **(plain | options)
    )
    import_tokenizer(folder / "m.model", folder)
    return Tokenizer(folder)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("ours")
    train_tokenizer(folder, SAMPLE, 900)
    made = {"ours": Tokenizer(folder), "with unused pieces": unused(folder)}
    for name, options in LIKE.items():
        made[name] = given_like(tmp_path_factory.mktemp("like"), **options)
    return made


def unused(folder: Path) -> Tokenizer:
    """A copy of a tokenizer, of whose pieces some are not in use."""
    model: Any = sentencepiece_model_pb2.ModelProto()  # pyright: ignore
    model.ParseFromString((folder / MODEL).read_bytes())
    for piece in model.pieces[-40:-20]:
        piece.type = piece.UNUSED
    (folder / "unused.model").write_bytes(model.SerializeToString())
    (into := folder / "unused").mkdir()
    import_tokenizer(folder / "unused.model", into)
    return Tokenizer(into)


def check(tokenizer: Tokenizer, texts: list[str]) -> None:
    tokens, lengths = tokenizer.encode_batch(texts, 1)
    with switched_off():
        expected, counts = tokenizer.encode_batch(texts, 1)
    assert lengths.tolist() == counts.tolist()
    assert tokens.dtype == expected.dtype
    assert tokens.tolist() == expected.tolist()


NAMES = ["ours", "with unused pieces", *LIKE]


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(TEXT, max_size=4))
@example([])
@example(["", "\u2581", "a" * 200, "日" * 100])
@settings(deadline=None)
def test_tokens_are_those_of_sentencepiece(
    tokenizers: dict[str, Tokenizer], name: str, texts: list[str]
) -> None:
    check(tokenizers[name], texts)


@pytest.mark.parametrize("name", NAMES)
def test_what_rounding_decides_late_in_a_long_text_is_decided_alike(
    tokenizers: dict[str, Tokenizer], name: str
) -> None:
    """Far from the beginning float32 tells few scores apart, and paths that differ by less are cut
    as their rounding has it; and at a score of 1e5 SentencePiece counts from 0 again."""
    check(tokenizers[name], [" ".join(stem() for _ in range(size)) for size in (300, 30_000)])


def test_stretches_that_drive_each_other_out_of_memory_change_nothing(
    tokenizers: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_SLOTS", 2)
    tokenizer = Tokenizer(tokenizers["ours"].folder)
    check(tokenizer, [" ".join(RNG.choice(WORDS, 2_000))] * 2)


def test_bpe_is_left_to_sentencepiece(tmp_path: Path) -> None:
    tokenizer = given_like(tmp_path, model_type="bpe")
    tokens, lengths = tokenizer.encode_batch(SAMPLE, 1)
    ends = np.cumsum(lengths)
    for text, end, length in zip(SAMPLE, ends, lengths, strict=True):
        assert tokens[end - length : end].tolist() == [tokenizer.bos, *tokenizer.encode(text)]
