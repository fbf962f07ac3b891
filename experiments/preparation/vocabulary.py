"""Vocabularies learnt from a sample: seconds, memory, bytes a token."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiments.preparation.sizes import ROOT, columns
from experiments.preparation.table import Table
from experiments.preparation.text import web_pages
from experiments.preparation.watch import watch
from glam.data.tokenizer import Tokenizer, train_tokenizer

NATURAL = 32_000  # pieces
SIZES = ((2_048, 8), (NATURAL, 32))  # pieces, and megabytes of the sample
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


def _sample(megabytes: float, seed: int) -> Iterator[str]:
    size = 0
    for page in web_pages(seed):
        yield page
        size += len(page.encode())
        if size >= megabytes * 1e6:
            return


if __name__ == "__main__":
    folder, size, amount = sys.argv[1:]
    train_tokenizer(Path(folder), _sample(float(amount), seed=0), int(size))
