"""JSON in any layout, parsed as it is read."""

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.config import Record
from glam.data.formats import Spec, records, unpack

RECORDS = [{"text": f'{n} a "quoted" }},{{ é ☃', "meta": {"n": [n]}} for n in range(4)]
TEXTS = [record["text"] for record in RECORDS]
LAYOUTS = {
    "array": json.dumps(RECORDS),
    "indented": json.dumps(RECORDS, indent=2, ensure_ascii=False),
    "lines": "\n".join(map(json.dumps, RECORDS)),
    "concatenated": "".join(map(json.dumps, RECORDS)),
    "arrays": json.dumps(RECORDS[:2]) + "\n" + json.dumps(RECORDS[2:]),
}


@pytest.mark.parametrize("chunk", [1, 5, 64, 1 << 20])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_wherever_it_is_cut(read, tmp_path, monkeypatch, layout, chunk):
    monkeypatch.setattr(unpack, "_READ", chunk)
    path = tmp_path / "a.json"
    path.write_text("\ufeff" + LAYOUTS[layout], encoding="utf-8")
    assert read(path) == (TEXTS, [])


def test_one_object_is_one_document(read, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(RECORDS[0], indent=1))
    assert read(tmp_path / "a.json") == (TEXTS[:1], [])


@pytest.mark.parametrize("chunk", [3, 1 << 20])
@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (b'{"text": "x" "n": 1}', "not JSON"),
        (b'{"text": "never closed}', "not JSON"),
        (b'{"text": "caf\xe9"}', "not UTF-8"),
        (b'"x"', "no JSON object"),
        (b'{"text": "' + b"x" * 3000 + b'"}', "too long"),
        (b'{"text": ["x"]}', "text that is no string"),
    ],
)
def test_a_broken_value_costs_no_other(read, tmp_path, monkeypatch, broken, kind, chunk):
    monkeypatch.setattr(unpack, "_READ", chunk)
    path = tmp_path / "a.json"
    path.write_bytes(b'[\n{"text": "one"},\n' + broken + b',\n{"text": "two"},\n{"text": "three"}]')
    texts, bad = read(path, most_bytes=2500 if kind == "too long" else 10_000)
    assert texts == ["one", "two", "three"]
    assert bad == [(kind, "a.json:3")]


def test_a_file_that_is_cut_keeps_what_is_before(read, tmp_path):
    (tmp_path / "a.json").write_text('[{"text": "one"}, {"text": "tw')
    assert read(tmp_path / "a.json") == (["one"], [("not JSON", "a.json:1")])


def test_an_array_is_never_held_whole(tmp_path):
    path = tmp_path / "a.json"
    with path.open("w") as file:
        file.write("[")
        for _ in range(300):
            file.write(json.dumps({"text": "x" * 100_000}) + ",\n")
        file.write('{"text": "end"}]')
    tracemalloc.start()
    count = sum(1 for _ in records([path], Spec()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 301
    assert peak < 12_000_000


@settings(max_examples=50)
@given(st.lists(st.text(min_size=1).filter(lambda text: not text.isspace()), max_size=8))
def test_any_text_comes_back(tmp_path_factory, texts):
    path: Path = tmp_path_factory.mktemp("any") / "a.json"
    path.write_text(json.dumps([{"text": text} for text in texts]))
    assert list(records([path], Spec())) == [Record(text) for text in texts]
