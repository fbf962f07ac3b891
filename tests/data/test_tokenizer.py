import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from glam.data import PreparedData, Tokenizer
from glam.data.tokenizer import train_tokenizer
from glam.errors import UserError
from glam.kernels import switched_off

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = [f"the {a} of {b} was {a}{b}ed" for a in ("cat", "dog", "bird") for b in "abcdefghij"]
# Text that could be mistaken for the tokenizer's own marks.
MARKS = st.sampled_from(
    ["<s>", "</s>", "<unk>", "<0x41>", "\u2581", "\u2585", "\n\n", "  ", "\t", "\ufffd"]
)
ANY = st.lists(
    st.one_of(st.text(st.characters(codec="utf-8"), max_size=20), MARKS), max_size=8
).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ANY)
def test_any_text_comes_back_exactly(prepared: PreparedData, text: str) -> None:
    tokenizer = prepared.tokenizer
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(ANY, min_size=1, max_size=5))
def test_texts_get_the_tokens_that_each_gets_alone(
    prepared: PreparedData, texts: list[str]
) -> None:
    tokenizer = prepared.tokenizer
    alone = [[tokenizer.bos, *tokenizer.encode(text)] for text in texts]
    assert split(*tokenizer.encode_batch(texts, 1)) == alone
    with switched_off():
        assert split(*tokenizer.encode_batch(texts, 1)) == alone


def split(tokens: NDArray[Any], lengths: NDArray[Any]) -> list[list[int]]:
    """A batch's tokens by text."""
    return [each.tolist() for each in np.split(tokens, np.cumsum(lengths)[:-1])]


def test_every_character_comes_back(prepared: PreparedData) -> None:
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    texts = ["".join(every[i : i + 256]) for i in range(0, len(every), 256)]
    encoded = split(*prepared.tokenizer.encode_batch(texts, 1))
    assert [prepared.tokenizer.decode(tokens[1:]) for tokens in encoded] == texts


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ANY)
def test_bytes_of_tokens_add_up_to_bytes_of_text(prepared: PreparedData, text: str) -> None:
    tokens = prepared.tokenizer.encode(text)
    assert prepared.tokenizer.num_bytes[tokens].sum() == len(text.encode())


def test_beginning_and_end_stand_for_no_text(prepared: PreparedData) -> None:
    tokenizer = prepared.tokenizer
    assert tokenizer.bos != tokenizer.eos
    assert tokenizer.num_bytes[[tokenizer.bos, tokenizer.eos]].tolist() == [0, 0]
    assert {tokenizer.bos, tokenizer.eos}.isdisjoint(tokenizer.encode("<s></s>"))


def test_a_vocabulary_too_large_for_the_text_names_the_largest_that_works(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"model.vocab_size=5000 .* model.vocab_size=\d+ or less"
    ) as e:
        train_tokenizer(tmp_path, SAMPLE, 5000)
    largest = int(re.findall(r"model.vocab_size=(\d+) or less", str(e.value))[0])
    train_tokenizer(tmp_path, SAMPLE, largest)
    assert Tokenizer(tmp_path).vocab_size == largest


@pytest.mark.parametrize(
    "text", ["a", "7", "é", "ab", "a\n", "hello", "日本語のテキスト", "aaaa aaaa"]
)
def test_however_little_the_text_the_vocabulary_that_the_refusal_names_is_learnt(
    text: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"model.vocab_size=\d+ or less") as refusal:
        train_tokenizer(tmp_path, [text], 2048)
    largest = int(re.findall(r"model.vocab_size=(\d+) or less", str(refusal.value))[0])
    train_tokenizer(tmp_path, [text], largest)
    tokenizer = Tokenizer(tmp_path)
    other = f"{text} and  other\n\ttext, 日本 \u2581"  # a space, though the text had none
    assert tokenizer.decode(tokenizer.encode(other)) == other
    assert tokenizer.num_bytes[tokenizer.encode(other)].sum() == len(other.encode())


def test_a_vocabulary_too_small_for_the_characters_is_refused(tmp_path: Path) -> None:
    letters = ["".join(map(chr, range(0x4E00, 0x4E00 + 300)))] * 3
    for size in (100, 300):
        with pytest.raises(UserError, match=rf"model.vocab_size={size} .* or more"):
            train_tokenizer(tmp_path, letters, size)


def test_a_text_with_the_sign_for_unknown_pieces_is_learnt_from_too(tmp_path: Path) -> None:
    """SentencePiece skips such a text without a word."""
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    train_tokenizer(tmp_path / "with", [f"\u2585{text}" for text in SAMPLE], 280)
    train_tokenizer(tmp_path / "without", [f"\n{text}" for text in SAMPLE], 280)
    tokenizer = Tokenizer(tmp_path / "with")
    assert tokenizer.fingerprint == Tokenizer(tmp_path / "without").fingerprint
    text = "the \u2585 cat \u2585\u2585 of a"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.num_bytes[tokenizer.encode(text)].sum() == len(text.encode())


def test_a_sample_without_a_letter_is_one_line(tmp_path: Path) -> None:
    for sample in ([], ["\u2585"], ["\n"]):
        with pytest.raises(UserError, match=r"data.corpus has no letter|set model.vocab_size="):
            train_tokenizer(tmp_path, sample, 300)


def test_equal_samples_give_equal_vocabularies(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        train_tokenizer(folder, SAMPLE, 280)
    assert Tokenizer(folders[0]).fingerprint == Tokenizer(folders[1]).fingerprint


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_the_tokenizer(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefghij"), 6)) for _ in range(20_000)]
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(" ".join(random.choice(words, 400_000)))
    files = f"data.corpus.files=[{tmp_path}]"
    line = ["task=prepare", "data/corpus=local", files, "data=unfiltered", "model.vocab_size=4000"]
    places = [f"cache_dir={tmp_path / 'cache'}", f"runs_dir={tmp_path / 'runs'}"]
    job = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *line, *places],
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in a shell's background would hand down an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with job:
        while not list(tmp_path.glob("cache/tokenizer-*.part-*")):
            assert job.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        job.send_signal(signal.SIGINT)
        _, said = job.communicate(timeout=600)
    assert job.returncode == 130
    assert said.splitlines()[-1].startswith("stopped; the same command resumes")
    assert "Traceback" not in said
    assert not list(tmp_path.glob("cache/tokenizer-*/manifest.json"))


@pytest.mark.parametrize("vocab_size", [400, 2**16 - 1, 2**16, 2**16 + 1, 256_000])
def test_a_stored_token_is_no_wider_than_the_vocabulary_needs_and_none_wraps(
    vocab_size: int,
) -> None:
    kind = Tokenizer.dtype.fget(SimpleNamespace(vocab_size=vocab_size))  # type: ignore[attr-defined]
    assert np.array([vocab_size - 1]).astype(kind).item() == vocab_size - 1
    assert np.dtype(kind).itemsize == (2 if vocab_size <= 2**16 else 4)
