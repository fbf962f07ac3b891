"""Every key is explained by the comment beside its field."""

from dataclasses import dataclass

import pytest

from glam.composition import keys
from glam.composition.keys import all_keys, comments, integer_keys, known_keys


@dataclass(kw_only=True)
class Base:
    name: str  # which one
    # [rows] above, on
    # two lines
    size: int = 3
    both: float | None = None  # [s] beside


@dataclass(kw_only=True)
class Derived(Base):
    name: str = "derived"
    own: bool = False  # with # a hash


@pytest.mark.parametrize("key", all_keys(), ids=lambda key: f"{key.kind.__name__}.{key.field}")
def test_every_key_has_a_meaning(key):
    assert len(key.meaning) > 3
    assert not key.meaning.endswith(".")


def test_a_meaning_is_the_comment_beside_a_field_or_above_it():
    assert comments(Base) == {
        "name": ("", "which one"),
        "size": ("rows", "above, on two lines"),
        "both": ("s", "beside"),
    }


def test_a_field_without_words_of_its_own_has_those_of_its_base():
    assert comments(Derived) == comments(Base) | {"own": ("", "with # a hash")}


def test_whole_numbers_are_told_from_others():
    assert {"training.tokens", "hardware.threads", "seed"} <= integer_keys()
    assert not {"optimizer.learning_rate", "training.rematerialize", "run"} & integer_keys()


def test_the_default_of_a_key_that_several_classes_have_is_the_default_choices():
    assert known_keys()["optimizer.learning_rate"] == "auto"
    assert known_keys()["optimizer.beta2_decay"] == 0.8


def test_types_are_told_in_words():
    named = {key.name: key.type_name for key in keys.all_keys()}
    assert named["model.d_head"] == "int or null"
    assert named["data.left_out"] == "list of str"
    assert named["hardware.mesh"] == "mapping to int"
