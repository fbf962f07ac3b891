"""The content of `analysis.json`."""

import json

import numpy as np
import pytest

from glam.analysis.specialisation.analyse import (
    analyse,
    count_choices,
    most_frequent,
    over_training,
)
from glam.files import parse_json
from glam.runs.findings import Analysis
from glam.runs.record import Metrics
from tests.analysis.specialisation.worlds import NUM_EXPERTS, documents, labels, null_routes


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    docs = documents(rng)
    kinds = labels(rng, docs)
    one, other = null_routes(rng, docs), null_routes(rng, docs)
    one[kinds[0].values == 7] = 4
    other[:] = np.where(rng.random(len(one)) < 0.3, one, other)
    second = [(route + 1) % NUM_EXPERTS for route in (one, other)]
    choices = {1: np.stack([one, second[0]], 1), 3: np.stack([other, second[1]], 1)}
    found = analyse(choices, NUM_EXPERTS, kinds, docs, shuffles=40, seed=0)
    return docs, kinds, choices, found


def test_loads_count_every_choice_and_sum_to_one(world):
    _, kinds, choices, found = world
    [first, _] = found["load"]
    flat = choices[1].flatten()
    assert first["share"] == pytest.approx(np.bincount(flat) / len(flat))
    posts = choices[1][kinds[2].values == 1].flatten()
    assert first["by_domain"]["posts"] == pytest.approx(
        np.bincount(posts, minlength=8) / len(posts)
    )
    assert count_choices(choices[1], None, NUM_EXPERTS).sum() == 2 * found["tokens"]


def test_layers_that_share_experts_agree_and_the_excess_leaves_chance_out(world):
    [both] = world[3]["agreement"]
    assert both["layers"] == [1, 3]
    assert both["low"] > 0
    assert both["excess"] == pytest.approx(both["bits"] - both["null"])


def test_the_tokens_an_expert_gets_most_come_with_their_shares(world):
    _, kinds, choices, found = world
    [row] = [one for one in found["experts"] if (one["layer"], one["expert"]) == (1, 4)]
    tokens = kinds[0].values[choices[1][:, 0] == 4]
    [seven] = [one for one in row["tokens"] if one["piece"] == "7"]
    assert seven["of_token"] == 1
    assert seven["share"] == pytest.approx((tokens == 7).mean())
    ordered = [one["share"] for one in row["tokens"]]
    assert ordered == sorted(ordered, reverse=True)
    assert most_frequent(np.array([0.0, 3, 0, 5])) == [3, 1]


def test_the_planted_specialist_is_among_the_claims_that_held(world):
    held = [one for one in world[3]["claims"] if one["found"]]
    assert (1, 4, "token", "7") in [
        (one["layer"], one["expert"], one["about"], one["label"]) for one in held
    ]


def test_it_is_what_the_strict_reader_takes_and_the_same_each_time(world):
    docs, kinds, choices, found = world
    again = analyse(choices, NUM_EXPERTS, kinds, docs, shuffles=40, seed=0)
    assert again == found
    rest = {"training": over_training(Metrics({})), "documents_by_domain": {"posts": 40}}
    whole = json.dumps(found | rest).encode()
    assert parse_json(whole, Analysis)["tokens"] == 6000


def test_over_training_says_how_much_of_the_load_went_elsewhere():
    columns = {"tokens": np.array([10.0, 20.0]), "load/1/0": np.array([0.9, 0.5])}
    found = over_training(Metrics(columns | {"load/1/1": np.array([0.1, 0.5])}))
    assert found["tokens"] == [10, 20]
    [layer] = found["layers"]
    assert layer["elsewhere"] == pytest.approx([0.4, 0])
    assert layer["busiest"] == pytest.approx([1.8, 1])
