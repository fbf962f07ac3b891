"""Text to tokens: our kernel beside SentencePiece, whose tokens it gives, and Hugging Face's
tokenizers in Rust, on the embedded reviews. `as before` is what the kernel replaced: lists of
Python's numbers."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import tokenizers

from experiments.benchmarks.scores import reviews
from experiments.benchmarks.timing import interleaved
from glam.data import Tokenizer
from glam.data.tokenizer import MODEL, SPACE, train_tokenizer
from glam.kernels import switched_off

SIZES, SAMPLE, PAGES = (2048, 16_384), 8_000, 1_000


def measure() -> Iterator[dict[str, object]]:
    pages = reviews(SAMPLE)
    texts = pages[:PAGES]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            train_tokenizer(Path(folder), pages, size)
            rows = _of(Path(folder), texts, f"{size:,} pieces")
        for row in rows:
            speed = {"mb_per_cpu_s": megabytes / (float(str(row["ms"])) / 1e3)}
            yield {"vocabulary": f"{size:,} pieces"} | row | speed


def _of(folder: Path, texts: Sequence[str], label: str) -> list[dict[str, object]]:
    ours = Tokenizer(folder)
    theirs: Any = sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL))
    rust = _in_rust(theirs)

    def without() -> object:
        with switched_off():
            return ours.encode_batch(texts, 1)

    def before() -> object:
        every = theirs.encode(list(texts), num_threads=1)
        return [np.array([ours.bos, *each], ours.dtype) for each in every]

    candidates = {
        "kernel": lambda: ours.encode_batch(texts, 1),
        "SentencePiece, as before": before,
        "without kernels": without,
        "tokenizers": lambda: [each.ids for each in map(rust.encode, texts)],
    }
    return interleaved(candidates, "SentencePiece, as before", turn=0.3, label=label)


def _in_rust(model: Any) -> tokenizers.Tokenizer:
    """The same pieces in Hugging Face's library; its ties may fall otherwise."""
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.vocab_size())]
    made = tokenizers.Tokenizer(
        tokenizers.models.Unigram(pieces, unk_id=model.unk_id(), byte_fallback=True)
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(SPACE, prepend_scheme="never")
    return made
