"""Lines are the same wherever a file is cut into chunks."""

import tracemalloc

import pytest

from glam.config import BadRecord
from glam.data.formats import unpack
from glam.data.formats.lines import lines


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_lines_do_not_depend_on_chunks(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(unpack, "_READ", chunk)
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\ntwelve letters\nfour\r\nend")
    found = [
        (each.kind, each.place, each.content) if isinstance(each, BadRecord) else each
        for each in lines(path, 8)
    ]
    long = ("too long", f"{path}:3", b"twelve letters")
    assert found == [(1, b"one"), (2, b""), long, (4, b"four\r"), (5, b"end")]


def test_a_line_of_any_length_is_never_held(tmp_path):
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        for _ in range(60):
            file.write(b"x" * 1_000_000)
        file.write(b"\nend")
    tracemalloc.start()
    (long, end) = lines(path, 2_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(long, BadRecord)
    assert end == (2, b"end")
    assert peak < 8_000_000
