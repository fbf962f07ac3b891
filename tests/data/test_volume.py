"""How much text there is, told beforehand."""

import gzip
from pathlib import Path

import pytest

from glam.config import LocalCorpusConfig, Source
from glam.data.local import local_sources
from glam.data.volume import volume

LINE = '{"text": "the same words again and again and again"}\n'


def test_compressed_files_are_counted_as_they_unpack(tmp_path: Path) -> None:
    for number in range(40):  # more than are looked into
        size = 1000 + 100 * number
        (tmp_path / f"{number}.jsonl.gz").write_bytes(gzip.compress(LINE.encode() * size))
    (tmp_path / "plain.jsonl").write_text(LINE * 500)
    found = volume(local_sources(LocalCorpusConfig(files=[str(tmp_path)])))
    whole = len(LINE) * (sum(1000 + 100 * number for number in range(40)) + 500)
    assert found.files == 41
    assert found.stored == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert found.text == pytest.approx(whole, rel=0.05)
    assert (found.fetched, found.largest) == (0, 0)


def test_what_lies_elsewhere_is_told_by_what_is_known_of_it() -> None:
    def never(index: int) -> None:
        raise AssertionError(f"{index} was fetched")

    source = Source(
        name="far",
        role="pool",
        component="webpages",
        files=(Path("a.parquet"), Path("b.parquet")),
        reader=lambda _: iter(()),
        reader_name="none",
        content=("1", "2"),
        sizes=(10, 30),
        fetch=never,  # type: ignore[arg-type]
        expansion=2.5,
    )
    found = volume([source])
    assert (found.files, found.stored, found.text, found.fetched, found.largest) == (
        *(2, 40, 100, 40),
        30,
    )
