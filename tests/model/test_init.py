"""Initial values against their definition: a generator per parameter, keyed by seed and name."""

import dataclasses
import hashlib

import pytest
import torch

from glam.model import Glam
from glam.model.init import draw, initialize

SEED = 7


def normal(std: float, *key: object, shape: tuple[int, ...]) -> torch.Tensor:
    digest = hashlib.sha256("/".join(map(str, (SEED, *key))).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.empty(shape).normal_(std=std, generator=generator)


@pytest.fixture
def state(tiny):
    model = Glam(tiny)
    model.initialize(SEED)
    return model.state_dict()


@pytest.mark.parametrize(
    ("name", "name_in_0_1", "std"),
    [
        ("embedding.w_VM", "embedding.w_VM", 16**-0.5),
        ("layers.0.attention.w_key_MA", "layers.0.attention.w_key_MA", 16**-0.5),
        ("layers.0.ffn.w_gate_MH", "layers.0.mixing.w_gate_MH", 16**-0.5),
        ("layers.0.ffn.w_out_HM", "layers.0.mixing.w_out_HM", 24**-0.5),
        ("layers.1.ffn.router.w_ME", "layers.1.mixing.router.w_ME", 0.1 * 16**-0.5),
    ],
)
def test_a_weight_is_drawn_by_its_name_of_version_0_1(state, name, name_in_0_1, std):
    expected = normal(std, name_in_0_1, shape=tuple(state[name].shape))
    assert torch.equal(state[name], expected)


@pytest.mark.parametrize(
    ("name", "inputs"), [("w_in_EMH", 16), ("w_out_EHM", 24)], ids=["w_in", "w_out"]
)
def test_an_expert_is_drawn_by_its_number_too(state, name, inputs):
    experts = state[f"layers.1.ffn.experts.{name}"]
    for number, expert in enumerate(experts):
        key = f"layers.1.mixing.experts.{name}", number
        assert torch.equal(expert, normal(inputs**-0.5, *key, shape=tuple(expert.shape)))


def test_biases_start_at_zero_and_scales_at_one(state):
    for name, value in state.items():
        if "bias" in name:
            assert not value.any(), name
        elif "scale" in name:
            assert (value == 1).all(), name
        else:
            assert value.std() > 0, name


def test_the_dense_twin_is_drawn_by_the_name_of_its_layer(tiny):
    model = Glam(dataclasses.replace(tiny, num_experts=1))
    model.initialize(SEED)
    weight = model.state_dict()["layers.1.ffn.w_in_MH"]
    assert torch.equal(weight, normal(16**-0.5, "layers.1.mixing.w_in_MH", shape=(16, 48)))


def test_parameters_without_memory_are_left_alone(tiny):
    with torch.device("meta"):
        model = Glam(tiny)
    initialize(model, SEED)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_weight_in_bfloat16_is_the_rounded_draw(state):
    name = "layers.0.attention.w_key_MA"
    narrow = torch.empty(16, 16, dtype=torch.bfloat16)
    draw(narrow, name, SEED)
    assert torch.equal(narrow, state[name].bfloat16())
