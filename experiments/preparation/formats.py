"""What a core reads of each format in a second, whole and compressed."""

import csv
import gzip
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard

from experiments.preparation.table import Table
from experiments.preparation.text import web_pages
from glam.config import Record
from glam.data.formats import Spec, records

MEGABYTES, ROUNDS = 40, 3
PAGES_A_GROUP = 10_000  # of .parquet


def main(scratch: Path) -> None:
    table = Table("formats")
    texts = _texts()
    size = sum(len(text.encode()) for text in texts) / 1e6
    folder = scratch / "formats"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, encode in FORMATS.items():
        for packed, pack in PACKED.items():
            name = f".{kind}{packed}"
            if table.has(format=name):
                continue
            path = folder / f"text{name}"
            path.write_bytes(pack(encode(texts)))
            seconds = min(_seconds(path, texts) for _ in range(ROUNDS))
            stored = path.stat().st_size / 1e6
            row = {"format": name, "text_mb": size, "stored_mb": stored, "cpu_s": seconds}
            table.add({**row, "mb_per_s": size / seconds})
            path.unlink()


def _texts() -> list[str]:
    texts: list[str] = []
    size = 0
    for page in web_pages():
        texts.append(page)
        size += len(page)
        if size >= MEGABYTES * 1e6:
            return texts
    raise AssertionError("pages have no end")


def _seconds(path: Path, texts: Sequence[str]) -> float:
    """CPU time of reading the file, of which every text has to come back."""
    spec, start, found = Spec(sections=False, most_bytes=10**9), time.process_time(), 0
    for record in records([path], spec):
        assert isinstance(record, Record)
        found += len(record.text)
    seconds = time.process_time() - start
    assert found >= sum(map(len, texts))
    return seconds


def _jsonl(texts: Sequence[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def _json(texts: Sequence[str]) -> bytes:
    return json.dumps([{"text": text} for text in texts]).encode()


def _csv(texts: Sequence[str]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["text"])
    writer.writerows([text] for text in texts)
    return out.getvalue().encode()


def _parquet(texts: Sequence[str]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    library: Any = pyarrow
    out = io.BytesIO()
    write: Any = parquet.write_table
    write(library.table({"text": list(texts)}), out, row_group_size=PAGES_A_GROUP)
    return out.getvalue()


def _wet(texts: Sequence[str]) -> bytes:
    return b"".join(map(_wet_record, texts))


def _wet_record(text: str) -> bytes:
    raw = text.encode()
    head = "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.org/x\r\n"
    return f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw + b"\r\n\r\n"


def _txt(texts: Sequence[str]) -> bytes:
    return "\n\n".join(texts).encode()


FORMATS: dict[str, Callable[[Sequence[str]], bytes]] = {
    "parquet": _parquet,
    "csv": _csv,
    "json": _json,
    "jsonl": _jsonl,
    "txt": _txt,
    "wet": _wet,
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": lambda content: gzip.compress(content, 6),
    ".zst": lambda content: zstandard.compress(content, 3),
}
