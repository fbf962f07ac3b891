import json
import pickle
from functools import partial

import pytest

from glam.config import BadRecord, Record
from glam.data.formats import Spec, format_of, records, stem_of
from glam.errors import UserError


def write(path, *found):
    path.write_text("".join(json.dumps(each) + "\n" for each in found))
    return path


def test_fields_may_be_nested_and_a_name_with_a_dot_is_taken_first(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        {"doc": {"text": "one", "meta": {"from": "x/y"}}, "score": {"v": 2}},
        {"doc.text": "two", "doc": {"text": "no", "meta": 3}, "score": {"v": "0.5"}},
    )
    spec = Spec(text_field="doc.text", domain_field="doc.meta.from", score_field="score.v")
    assert list(records([path], spec)) == [Record("one", "x_y", 2.0), Record("two", None, 0.5)]


@pytest.mark.parametrize("score", [None, "high", True, float("nan"), [1], 10**400])
def test_a_record_without_a_score_is_bad_where_scores_are_asked_for(tmp_path, score):
    path = write(tmp_path / "a.jsonl", {"text": "x", "s": 1}, {"text": "y", "s": score})
    _, bad = records([path], Spec(score_field="s"))
    assert isinstance(bad, BadRecord)
    assert (bad.kind, bad.place) == ("without a score", f"{path}:2")
    _, unscored = records([path], Spec(score_field="s", demands_all=False))
    assert unscored == Record("y")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            Spec(text_field="txt"),
            r"a.jsonl:1: no field 'txt', which .*text_field names; did you mean text",
        ),
        (Spec(text_field="doc.bdy"), r"did you mean doc.body\?"),
        (
            Spec(domain_field="sorce"),
            r"no field 'sorce', which .*domain_field names; did you mean source",
        ),
        (Spec(score_field="quality"), r"score_field names; choose from doc.body, source, text"),
    ],
)
@pytest.mark.parametrize("count", [3, 2000])
def test_a_field_that_no_record_has_is_refused_and_soon(tmp_path, spec, says, count):
    found = {"text": "x", "source": "y", "doc": {"body": "z"}}
    path = write(tmp_path / "a.jsonl", *[found] * count)
    found, read = records([path], spec), list[object]()
    with pytest.raises(UserError, match=says):
        read.extend(each for each in found)
    assert len(read) <= 999


def test_what_is_not_demanded_may_be_missing(tmp_path):
    path = write(tmp_path / "a.jsonl", {"text": "x"})
    spec = Spec(domain_field="source", score_field="s", demands_all=False)
    assert list(records([path], spec)) == [Record("x")]


def test_the_reader_goes_to_other_processes(tmp_path):
    path = write(tmp_path / "a.jsonl", {"text": "x"})
    reader = pickle.loads(pickle.dumps(partial(records, spec=Spec())))
    assert list(reader([path])) == [Record("x")]


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("a.jsonl", ".jsonl", "a"),
        ("a.b.json.zst", ".json", "a.b"),
        ("x.warc.wet.gz", ".wet", "x"),
        ("a.txt.txt", ".txt", "a.txt"),
        ("a.gz", "", "a"),
        ("a.md", "", "a.md"),
    ],
)
def test_suffixes_tell_the_format(name, kind, stem):
    assert (format_of(name), stem_of(name)) == (kind, stem)
