"""Samples can be told apart whatever they say."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glam.config import GenerateTaskConfig
from glam.errors import UserError
from glam.tasks.generate import RULE, _streams, under_rules


def test_one_text_stands_alone():
    assert under_rules(["It was\n"]) == "It was\n"


@pytest.mark.parametrize("text", ["", RULE * 40, f"a\n{RULE * 12} sample 2 of 3\nb"])
def test_no_text_can_look_like_the_rule_of_the_next(text):
    written = under_rules([text, "b", text])
    rule = re.match(rf"{RULE}+", written)[0]
    assert rule not in text
    assert written.count(rule) == 3


@given(st.lists(st.text(alphabet=f"ab {RULE}\n", max_size=40), min_size=2, max_size=5))
def test_texts_are_found_again_between_their_rules(texts):
    written = under_rules(texts)
    rule = re.match(rf"{RULE}+", written)[0]
    header = re.escape(rule) + rf" sample \d of {len(texts)}\n"
    assert re.split(rf"(?:^|\n){header}", written)[1:] == texts


def test_text_streams_to_a_terminal_alone_unless_it_is_asked_for(monkeypatch):
    assert not _streams(GenerateTaskConfig())
    assert _streams(GenerateTaskConfig(stream=True))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert _streams(GenerateTaskConfig())
    for other in ({"stream": False}, {"format": "json"}, {"beams": 4}):
        assert not _streams(GenerateTaskConfig(**other))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt": ""}, "task.prompt is empty"),
        ({"beams": 0}, "task.beams=0"),
        ({"length_penalty_form": "bert"}, "task.length_penalty_form"),
        ({"stream": True, "beams": 2}, "task.stream=true but task.beams=2"),
        ({"stream": True, "format": "json"}, "task.stream=true but task.format=json"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_line(wrong, said):
    with pytest.raises(UserError, match=said):
        GenerateTaskConfig(**wrong)
