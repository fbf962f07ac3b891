import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glam.config import Record
from glam.data.formats import Spec, records


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"text": "caf\xe9"}', "not UTF-8"),
        (b'{"text": "x"', "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b'["x"]', "no JSON object"),
        (b'{"body": "x"}', "without the text's field"),
        (b'{"text": 3}', "text that is no string"),
        (b'{"text": null}', "empty"),
        (b'{"text": " \\n"}', "empty"),
        (b'{"text": "' + b"x" * 2000 + b'"}', "too long"),
    ],
)
def test_a_bad_line_is_named_by_kind_and_place_and_costs_no_other(read, tmp_path, line, kind):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n' + line + b'\n{"text": "two"}')
    texts, bad = read(path, most_bytes=1900 if kind == "too long" else 10_000)
    assert texts == ["one", "two"]
    assert bad == [(kind, "a.jsonl:2")]


def test_what_python_reads_as_json_is_read(read, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "mark"}\r\n\n'
        b'\xef\xbb\xbf{"text": "mark within"}\n'
        b'{"text": "not a number", "x": NaN}\n'
        b'{"text": "half \\ud800"}\n'
    )
    assert read(path) == (["mark", "mark within", "not a number", "half \ud800"], [])


@given(st.lists(st.text(min_size=1).filter(lambda text: not text.isspace()), max_size=8))
def test_any_text_comes_back(tmp_path_factory, texts):
    path: Path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert list(records([path], Spec())) == [Record(text) for text in texts]
