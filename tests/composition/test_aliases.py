"""The names of other libraries lead to our keys."""

import pytest

from glam.composition.aliases import ALIASES, meant_by
from glam.composition.keys import known_keys
from glam.composition.overrides import groups


def test_every_alias_leads_to_a_key_that_exists():
    assert set(ALIASES) <= set(known_keys())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("optimizer.lr", "optimizer.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("model.hidden_size", "model.d_model"),
        ("training.seq_len", "training.sequence_length"),
        ("bs", "training.batch_size"),
        ("model.num_local_experts", "model.num_experts"),
        ("training.max_tokens", "training.tokens"),
        ("task.max_new_tokens", "task.max_tokens"),
        ("num_experts", "model.num_experts"),
        ("model.num_expert", "model.num_experts"),
    ],
)
def test_a_name_of_another_library_is_answered_with_ours(typed, meant):
    assert meant_by(typed, groups()).startswith(f"did you mean {meant}")


def test_a_name_that_is_near_none_is_answered_with_the_help():
    assert meant_by("zzzzzz", groups()) == "python run.py --help lists the keys"
