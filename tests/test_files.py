"""Files of ours read strictly: what does not fit is refused in a line, with the way out."""

import functools
import json
import math
import os
from dataclasses import dataclass

import pytest

from glam.errors import UserError
from glam.files import (
    UnfitError,
    check_type,
    read_json,
    read_json_if_there,
    read_yaml,
    sealed,
    strict,
    to_json,
)

WAY_OUT = "the same command writes it again"


@strict()
@dataclass
class Part:
    share: float


@strict()
@dataclass
class Whole:
    step: int
    losses: dict[str, float]
    part: Part | None = None


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.json"


def test_what_fits_is_read(file):
    file.write_text('{"step": 3, "losses": {"a": 1, "b": 2.5}, "part": {"share": 0.5}}')
    assert read_json(file, Whole, way_out=WAY_OUT) == Whole(3, {"a": 1, "b": 2.5}, Part(0.5))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        ("[1]", "should be an object"),
        ('{"step": 3, "losses": {', "Expecting property name"),
        ('{"losses": {}}', "step: field required"),
        ('{"step": 3, "losses": {}, "steps": 3}', "steps: unexpected"),
        ('{"step": "3", "losses": {}}', "step='3': input should be a valid integer"),
        ('{"step": true, "losses": {}}', "step=True"),
        ('{"step": 3.0, "losses": {}}', "step=3.0"),
        ('{"step": 3, "losses": {"a": NaN}}', "losses.a=None: input should be a valid number"),
        ('{"step": 3, "losses": {"a": 1e999}}', "losses.a=inf"),
        ('{"step": 3, "losses": {"a": 1' + 400 * "0" + "}}", "losses.a="),
        ('{"step": 1' + 5000 * "0" + ', "losses": {}}', "digits"),
        ('{"step": 3, "losses": {}, "part": {"share": "x\\ny"}}', r"part.share='x\ny'"),
        (100_000 * "[", "nested too deeply"),
        (100_000 * '{"part":', "nested too deeply"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(file, content, reason):
    file.write_text(content)
    with pytest.raises(UserError) as refused:
        read_json(file, Whole, way_out=WAY_OUT)
    said = str(refused.value)
    assert said.startswith(f"{file} cannot be read (")
    assert reason in said
    assert said.endswith(f"; {WAY_OUT}")
    assert "\n" not in said


def test_a_sealed_mapping_shows_any_change(file):
    content = {"step": 3, "losses": {"a": 0.1, "b": 1e-30}, "part": None}
    file.write_text(to_json(sealed(content)))
    assert read_json(file, Whole, way_out=WAY_OUT) == Whole(**content)
    for old, new in ((": 3", ": 4"), ("0.1", "0.2"), ('"a"', '"c"'), ("null", '{"share": 1}')):
        file.write_text(to_json(sealed(content)).replace(old, new, 1))
        with pytest.raises(UnfitError, match="changed after it was written"):
            read_json(file, Whole, way_out=WAY_OUT)


def test_a_seal_is_of_the_content_not_of_its_layout(file):
    content = {"b": [1, 2.0, "ü"], "a": None}
    file.write_text(json.dumps(sealed(content), sort_keys=True).replace(" ", "\r\n"))
    assert read_json(file, dict, way_out=WAY_OUT) == content


def test_what_json_has_no_word_for_is_written_as_null(file):
    file.write_text(to_json({"a": [math.nan, 1.0], "b": math.inf}))
    assert json.loads(file.read_text()) == {"a": [None, 1.0], "b": None}
    file.write_text(to_json(sealed({"a": math.nan, "b": {10: 1, 9: (2,)}})))
    assert read_json(file, dict, way_out=WAY_OUT) == {"a": None, "b": {"10": 1, "9": [2]}}


def in_place(file, what):
    match what:
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
        case "link to a device":
            file.symlink_to("/dev/zero")
        case "loop of links":
            file.symlink_to(file)
        case "bytes":
            file.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("what", ["folder", "pipe", "link to a device", "loop of links", "bytes"])
@pytest.mark.parametrize("read", [functools.partial(read_json, kind=Whole), read_yaml])
def test_nothing_is_waited_for_in_the_place_of_a_file(file, what, read):
    in_place(file, what)
    with pytest.raises(UserError, match="cannot be read"):
        read(file, way_out=WAY_OUT)


def test_nothing_lies_below_a_file(file):
    file.touch()
    assert read_json_if_there(file / "summary.json", Whole, way_out=WAY_OUT) is None


def test_an_absent_file_is_told_from_a_bad_one(file):
    assert read_json_if_there(file, Whole, way_out=WAY_OUT) is None
    with pytest.raises(FileNotFoundError):
        read_json(file, Whole, way_out=WAY_OUT)
    with pytest.raises(FileNotFoundError):
        read_yaml(file, way_out=WAY_OUT)


@pytest.mark.parametrize(
    "content", ["", "- 1", "3", "a: [", "a: \x00", "a: !!python/name:os.system", 30_000 * "["]
)
def test_yaml_is_a_mapping_of_plain_values_or_refused(file, content):
    file.write_text(content)
    with pytest.raises(UserError, match=WAY_OUT) as refused:
        read_yaml(file, way_out=WAY_OUT)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "kind"), [(1, int), (1, float), (None, int | None), (["a"], list[str]), (True, bool)]
)
def test_a_value_of_its_type_passes(value, kind):
    check_type(value, kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *[(1.0, int), (True, int), (None, int), ("1", float), (float("nan"), float)],
        *[(float("inf"), float | None), ([1], list[str]), ("ab", list[str]), (1, bool)],
    ],
)
def test_a_value_of_another_type_is_not_converted(value, kind):
    with pytest.raises(ValueError, match=r"should be|finite"):
        check_type(value, kind)
