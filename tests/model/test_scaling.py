"""An expert whose gates are scaled: the same in every path that the weights take."""

import pytest
import torch

from glam.config import ModelConfig
from glam.errors import UserError
from glam.model import Glam
from glam.model.moe.moe import MixtureOfExperts
from glam.model.scaling import scale_experts, scaled_experts

TOKENS = torch.arange(48).reshape(2, 24) % 40


@pytest.fixture
def model():
    shape = {"num_layers": 4, "d_model": 16, "d_ff": 16, "num_heads": 2, "num_experts": 4}
    model = Glam(ModelConfig(vocab_size=40, **shape)).double()
    model.dtype = torch.float64
    model.initialize(3)
    return model.eval()


def by_definition(moe: MixtureOfExperts, x, scales):
    """The sum over a token's choices of scale * gate * expert(x)."""
    routing, _ = moe.router(x.flatten(0, 1))
    y = torch.zeros_like(x.flatten(0, 1))
    w_in, w_out = moe.experts.w_in_EMH, moe.experts.w_out_EHM
    for token, (chosen, gates) in enumerate(zip(routing.experts, routing.gates, strict=True)):
        for expert, gate in zip(chosen.tolist(), gates, strict=True):
            hidden = torch.nn.functional.gelu(x.flatten(0, 1)[token] @ w_in[expert])
            y[token] += scales.get(expert, 1.0) * gate * (hidden @ w_out[expert])
    return y.view_as(x)


def test_a_scaled_expert_is_one_whose_gates_are_multiplied(model):
    moe = model.layers[1].ffn
    x = torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        wanted = by_definition(moe, x, {2: 0.25, 0: 0.0})
        assert not torch.allclose(moe(x).y, wanted)
        scale_experts(model, {(1, 2): 0.25, (1, 0): 0.0})
        assert torch.allclose(moe(x).y, wanted, rtol=1e-12, atol=1e-15)


def test_in_a_block_experts_are_scaled_and_after_it_weights_are_what_they_were(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}

    @torch.no_grad()
    def cut_off():
        logits = model(TOKENS).logits
        with scaled_experts(model, {(3, 1): 0.0}):
            assert not torch.equal(model(TOKENS).logits, logits)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_other_experts_and_the_routing_stay(model):
    with torch.no_grad():
        load = model(TOKENS).load
        scale_experts(model, {(1, 2): 0.0})
        assert torch.equal(model(TOKENS).load[0], load[0])


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ({(2, 0): 0.0}, "names layer 2, which has no experts; those with experts: 1, 3"),
        ({(3, 4): 0.0}, "names expert 4 of layer 3, which has experts 0 to 3"),
    ],
)
def test_an_expert_that_is_not_there_is_refused_and_nothing_changed(model, scales, said):
    before = model.layers[1].ffn.experts.w_out_EHM.clone()
    with pytest.raises(UserError, match=said):
        scale_experts(model, {(1, 0): 0.0, **scales})
    assert torch.equal(model.layers[1].ffn.experts.w_out_EHM, before)


def test_a_dense_model_has_none_to_scale():
    shape = {"num_layers": 2, "d_model": 16, "d_ff": 16, "num_heads": 2, "num_experts": 1}
    with pytest.raises(UserError, match="this run is dense"):
        scale_experts(Glam(ModelConfig(vocab_size=40, **shape)), {(1, 0): 0.0})
