"""A vocabulary as large as the paper's, learnt from a sample: seconds, memory, bytes a token."""

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiments.preparation.sizes import ROOT, columns
from experiments.preparation.table import Table
from experiments.preparation.text import web_pages
from experiments.preparation.watch import watch
from glam.data.tokenizer import Tokenizer, train_tokenizer
from glam.planning.paper import VOCABULARY

NATURAL = 32_000  # pieces: of much more, these corpora have no words
SIZES = ((2_048, 8), (NATURAL, 32), (VOCABULARY, 150))  # pieces, and megabytes of the sample
_MADE_UP = 2 / 3  # of the sample for the largest: words of syllables, as names are
_SYLLABLES = [c + v + e for c in "bdfgklmnprstvz" for v in "aeiou" for e in ("", "n", "r", "s")]
_OTHER_MB = 10  # of pages that nothing was learnt from, which are then encoded


def main(_: Path) -> None:
    table = Table("vocabulary")
    for pieces, megabytes in SIZES:
        if table.has(pieces=pieces, sample_mb=megabytes):
            continue
        command = [sys.executable, "-m", "experiments.preparation.vocabulary"]
        with tempfile.TemporaryDirectory() as name:
            found = watch([*command, name, str(pieces), str(megabytes)], ROOT)
            rate = _bytes_a_token(Tokenizer(Path(name)))
        row = {"pieces": pieces, "sample_mb": megabytes, **columns(found)}
        table.add({**row, "bytes_a_token": rate})


def _bytes_a_token(tokenizer: Tokenizer) -> float:
    texts = list(_sample(_OTHER_MB, seed=1))
    tokens = sum(map(len, tokenizer.encode_batch(texts, 1)))
    return sum(len(text.encode()) for text in texts) / tokens


def _sample(megabytes: float, seed: int, made_up: float = 0.0) -> Iterator[str]:
    """Pages, a share of them of words that are made up."""
    size, draw = 0, random.Random(seed)
    for page in web_pages(seed):
        if draw.random() < made_up:
            page = " ".join(
                "".join(draw.choices(_SYLLABLES, k=draw.randint(2, 4))) for _ in page.split()
            )
        yield page
        size += len(page.encode())
        if size >= megabytes * 1e6:
            return


if __name__ == "__main__":
    folder, size, amount = sys.argv[1:]
    share = _MADE_UP if int(size) == VOCABULARY else 0.0
    train_tokenizer(Path(folder), _sample(float(amount), seed=0, made_up=share), int(size))
