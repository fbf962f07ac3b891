"""Compressed files, whole and damaged."""

import gzip
import json

import pytest
import zstandard

from glam.data.formats import unpacked_bytes
from glam.data.formats.unpack import Gap, chunks, expansion


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"  # a frame that holds no data
PACKERS = [(".gz", gzip.compress), (".zst", zst)]


def lines(first: int, last: int) -> bytes:
    return b"".join(
        json.dumps({"text": f"{number} " + "word" * 20}).encode() + b"\n"
        for number in range(first, last)
    )


@pytest.mark.parametrize(("suffix", "pack"), PACKERS)
def test_members_follow_one_another(tmp_path, suffix, pack):
    path = tmp_path / f"a{suffix}"
    between = b"\0" * 3000 if suffix == ".gz" else SKIPPABLE
    path.write_bytes(pack(b"one") + pack(b"") + between + pack(b"two" * 700_000) + pack(b"three"))
    assert b"".join(chunks(path)) == b"one" + b"two" * 700_000 + b"three"


@pytest.mark.parametrize(("suffix", "pack"), PACKERS)
def test_what_lies_before_a_cut_end_stays(read, tmp_path, suffix, pack):
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(lines(0, 5)) + pack(lines(5, 9))[:-30])
    texts, bad = read(path)
    assert [int(text.split()[0]) for text in texts][:5] == [0, 1, 2, 3, 4]
    assert bad[-1][0] == f"damaged {suffix}"


@pytest.mark.parametrize(("suffix", "pack"), PACKERS)
def test_a_damaged_member_costs_none_of_the_others(read, tmp_path, suffix, pack):
    middle = bytearray(pack(lines(5, 9)))
    middle[len(middle) // 2] ^= 0xFF
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(lines(0, 5)) + middle + pack(lines(9, 12)))
    texts, bad = read(path)
    numbers = [int(text.split()[0]) for text in texts]
    assert numbers[:5] == [0, 1, 2, 3, 4]
    assert numbers[-3:] == [9, 10, 11]
    assert f"damaged {suffix}" in {kind for kind, _ in bad}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_is_not_compressed_at_all_is_damaged(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"plain text" * 500)
    (gap,) = chunks(path)
    assert isinstance(gap, Gap)


def test_a_line_that_is_packed_ten_thousandfold_is_not_unpacked_at_once(tmp_path):
    packer = zstandard.ZstdCompressor().compressobj()
    path = tmp_path / "a.zst"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(packer.compress(b"x" * 1_000_000))
        file.write(packer.flush())
    assert path.stat().st_size < 10_000
    sizes = [len(chunk) for chunk in chunks(path) if isinstance(chunk, bytes)]
    assert sum(sizes) == 100_000_000
    assert max(sizes) <= 1 << 25


@pytest.mark.parametrize(("suffix", "pack"), PACKERS)
def test_how_much_comes_out_is_estimated(tmp_path, suffix, pack):
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(lines(0, 40_000)))
    assert unpacked_bytes(path) == pytest.approx(len(lines(0, 40_000)), rel=0.05)
    assert expansion(path) > 5
    plain = tmp_path / "a.jsonl"
    plain.write_bytes(lines(0, 10))
    assert unpacked_bytes(plain) == len(lines(0, 10))
