"""Samples can be told apart whatever they say."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glam.tasks.generate import RULE, under_rules


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
