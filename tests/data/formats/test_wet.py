"""WET, whole and damaged."""

import gzip

import pytest

from glam.config import Record
from glam.data.formats import Spec, records, unpack


def record(text: str | bytes, kind: str = "conversion", size: int | str | None = None) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    lines = (
        "WARC/1.0",
        f"WARC-Type: {kind}",
        "WARC-Target-URI: http://a.org/x",
        "WARC-Identified-Content-Language: deu,eng",
        f"Content-Length: {len(raw) if size is None else size}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw + b"\r\n\r\n"


TEXTS = ["one\r\n\r\nmore", "zwei äöü ☃ WARC/1.0", "three\n"]
FILE = [record("software: x", "warcinfo"), *map(record, TEXTS)]


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
@pytest.mark.parametrize("name", ["a.warc.wet", "a.wet.gz"])
def test_conversions_are_documents(read, tmp_path, monkeypatch, name, chunk):
    monkeypatch.setattr(unpack, "_READ", chunk)
    members = map(gzip.compress, FILE) if name.endswith(".gz") else FILE
    (tmp_path / name).write_bytes(b"".join(members))
    assert read(tmp_path / name) == (TEXTS, [])


@pytest.mark.parametrize("chunk", [7, 1 << 20])
@pytest.mark.parametrize(
    ("damaged", "kind"),
    [
        (record("x", size=600), "not WET"),
        (record("xyz", size=1), "not WET"),
        (record("x", size="many"), "not WET"),
        (record("long " * 100)[:200] + b"\r\n", "not WET"),
        (b"no header\r\n", "not WET"),
        (record("x" * 3000), "too long"),
        (record("x", size="9" * 5000), "too long"),
        (record(b"caf\xe9"), "not UTF-8"),
        (record(" "), "empty"),
    ],
)
def test_a_damaged_record_costs_no_other(read, tmp_path, monkeypatch, damaged, kind, chunk):
    monkeypatch.setattr(unpack, "_READ", chunk)
    path = tmp_path / "a.wet"
    path.write_bytes(FILE[0] + FILE[1] + damaged + FILE[2] + FILE[3])
    assert read(path, most_bytes=2000) == (TEXTS, [(kind, "a.wet:3")])


def test_a_file_that_is_cut_keeps_what_is_before(read, tmp_path):
    (tmp_path / "a.wet").write_bytes(b"".join(FILE)[:-12])
    assert read(tmp_path / "a.wet") == (TEXTS[:2], [("not WET", "a.wet:4")])


def test_a_header_may_name_the_domain(tmp_path):
    (tmp_path / "a.wet").write_bytes(b"".join(FILE))
    spec = Spec(domain_field="WARC-Identified-Content-Language")
    first, *_ = records([tmp_path / "a.wet"], spec)
    assert first == Record(TEXTS[0], "deu_eng")
