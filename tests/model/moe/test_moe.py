"""The MoE layer against its definition: a loop over tokens and their experts in float64."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from glam.config import BALANCE_LOSSES, ModelConfig, RouterConfig
from glam.model import Glam
from glam.model.moe.moe import MixtureOfExperts, MoEOutput


def moe_of(config: ModelConfig) -> MixtureOfExperts:
    moe = MixtureOfExperts(config).double()
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return moe


def by_token(moe: MixtureOfExperts, x_BSM: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Outputs and coefficient * balance loss, one token after another."""
    x_TM = x_BSM.flatten(0, 1)
    w_in, w_out = moe.experts.w_in_EMH, moe.experts.w_out_EHM
    logits = x_TM @ moe.router.w_ME + moe.router.bias_E
    gates = logits.softmax(-1)
    bias = moe.router.bias_of_choice_E
    scores = gates.log() if bias is None else gates.log() + bias
    ys = []
    for x, g, score in zip(x_TM, gates, scores, strict=True):
        chosen = score.argsort(descending=True)[: config.top_k]
        weight = g[chosen] / g[chosen].sum() if config.router.normalize else g[chosen]
        outputs = [functional.gelu(x @ w_in[e]) @ w_out[e] for e in chosen]
        parts = [w * output for w, output in zip(weight, outputs, strict=True)]
        ys.append(torch.stack(parts).sum(0))
    loss = closed_form(config.router.balance_loss, logits, gates)
    return torch.stack(ys).view_as(x_BSM), config.router.balance_coefficient * loss


def closed_form(name: str, logits: Tensor, gates: Tensor) -> Tensor:
    mean, E = gates.mean(0), gates.shape[1]
    first = torch.tensor([(gates.argmax(-1) == e).sum() / len(gates) for e in range(E)])
    return {
        "none": torch.zeros((), dtype=gates.dtype),
        "loss_free": torch.zeros((), dtype=gates.dtype),
        "entropy": sum((g * g.log() for g in mean), start=torch.zeros(())),
        "gshard": E * sum((f * g for f, g in zip(first, mean, strict=True)), torch.zeros(())),
        "z_loss": torch.stack([z.exp().sum().log() ** 2 for z in logits]).mean(),
    }[name]


def gradients(moe: MixtureOfExperts, x: Tensor, y: Tensor, loss: Tensor) -> dict[str, Tensor]:
    """Of an arbitrary function of the outputs, plus the balance loss."""
    target = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    named = {"x": x, **{n: p for n, p in moe.named_parameters() if p.requires_grad}}
    grads = torch.autograd.grad((y * target).sum() + loss, list(named.values()))
    return dict(zip(named, grads, strict=True))


def assert_equals_the_loop(config: ModelConfig, batch: int, length: int) -> None:
    moe = moe_of(config)
    x = torch.randn(batch, length, config.d_model, dtype=torch.float64, requires_grad=True)
    output, (y, loss) = moe(x), by_token(moe, x, config)
    torch.testing.assert_close(output.y, y)
    torch.testing.assert_close(output.balance_loss, loss)
    expected = gradients(moe, x, y, loss)
    for name, grad in gradients(moe, x, output.y, output.balance_loss).items():
        torch.testing.assert_close(grad, expected[name], msg=lambda m, name=name: f"{name}: {m}")


def config_of(
    *,
    experts: int = 4,
    top_k: int = 2,
    width: int = 8,
    dispatcher: str = "grouped",
    **router: object,
) -> ModelConfig:
    router = {"balance_coefficient": 0.7, **router}
    return ModelConfig(
        vocab_size=8,
        d_model=width,
        d_ff=12,
        num_heads=1,
        num_experts=experts,
        top_k=top_k,
        dispatcher=dispatcher,
        capacity_factor=float(experts),  # room for every token
        router=RouterConfig(**router),
    )


@pytest.mark.parametrize("dispatcher", ["grouped", "capacity"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("balance_loss", BALANCE_LOSSES)
def test_outputs_and_all_gradients_equal_a_loop_over_tokens(dispatcher, normalize, balance_loss):
    config = config_of(dispatcher=dispatcher, normalize=normalize, balance_loss=balance_loss)
    assert_equals_the_loop(config, batch=2, length=9)


@settings(max_examples=40, deadline=None)
@given(
    experts=st.integers(2, 9),
    top_k=st.integers(1, 4),
    batch=st.integers(1, 3),
    length=st.integers(1, 12),
    dispatcher=st.sampled_from(["grouped", "capacity"]),
    normalize=st.booleans(),
)
def test_any_number_of_experts_choices_and_tokens_equals_the_loop(
    experts, top_k, batch, length, dispatcher, normalize
):
    config = config_of(
        experts=experts, top_k=min(top_k, experts), dispatcher=dispatcher, normalize=normalize
    )
    assert_equals_the_loop(config, batch, length)


@pytest.mark.parametrize("name", BALANCE_LOSSES)
def test_the_balance_loss_alone_reaches_the_gate(name):
    config = config_of(balance_loss=name)
    moe, x = moe_of(config), torch.randn(2, 7, 8, dtype=torch.float64)
    loss = moe(x).balance_loss
    if name in ("none", "loss_free"):
        assert loss == 0
        assert not loss.requires_grad
        return
    grads = torch.autograd.grad(loss, list(moe.router.parameters()))
    expected = torch.autograd.grad(by_token(moe, x, config)[1], list(moe.router.parameters()))
    torch.testing.assert_close(grads, expected)
    assert all(grad.abs().max() > 1e-6 for grad in grads)


@pytest.mark.parametrize("dispatcher", ["grouped", "capacity"])
def test_an_expert_nobody_chose_has_zero_gradient(dispatcher):
    config = config_of(dispatcher=dispatcher, balance_loss="none")
    moe = moe_of(config)
    with torch.no_grad():
        moe.router.bias_E[2] = -1e9
    moe(torch.randn(2, 9, 8, dtype=torch.float64)).y.square().sum().backward()
    for weight in moe.experts.parameters():
        assert weight.grad is not None
        assert not weight.grad[2].any()
        assert weight.grad[[0, 1, 3]].flatten(1).any(1).all()


@pytest.mark.parametrize("dispatcher", ["grouped", "capacity"])
def test_load_is_every_experts_share_of_the_choices(dispatcher):
    config = config_of(dispatcher=dispatcher)
    moe, x = moe_of(config), torch.randn(3, 11, 8, dtype=torch.float64)
    logits = x.flatten(0, 1) @ moe.router.w_ME + moe.router.bias_E
    chosen = logits.topk(2).indices.flatten().tolist()
    shares = [chosen.count(e) / len(chosen) for e in range(4)]
    torch.testing.assert_close(moe(x).load.tolist(), shares)


def test_moving_the_bias_evens_the_load_and_leaves_gates_alone():
    moe = moe_of(config_of(experts=8, balance_loss="loss_free", bias_rate=0.01))
    x = torch.randn(4, 250, 8, dtype=torch.float64)
    with torch.no_grad():
        moe.router.bias_of_choice_E.zero_()
        moe.router.bias_E[3] += 3
    before = moe(x)
    assert before.load.max() > 2 / 8
    for _ in range(800):
        moe.router.move_bias(moe(x).load.detach())
    after = moe(x)
    assert after.load.max() < 1.05 / 8
    torch.testing.assert_close(after.y, by_token(moe, x, config_of(experts=8))[0])


def run(moe: MixtureOfExperts, x: Tensor, seed: int) -> MoEOutput:
    torch.manual_seed(seed)
    return moe(x)


@pytest.mark.parametrize("dispatcher", ["grouped", "capacity"])
class TestTheRandomSecondChoice:
    def layer(self, dispatcher, threshold):
        router = {"second_policy": "random", "second_threshold": threshold}
        return moe_of(config_of(dispatcher=dispatcher, **router))

    def test_is_drawn_with_the_probability_of_its_gate_over_the_threshold(self, dispatcher):
        moe, x = self.layer(dispatcher, 0.6), torch.randn(64, 128, 8, dtype=torch.float64)
        logits = x.flatten(0, 1) @ moe.router.w_ME + moe.router.bias_E
        second = logits.topk(2).values.softmax(-1)[:, 1]
        gates = moe.router.route(logits).gates
        expected = (second / 0.6).clamp(max=1)
        deviation = (expected * (1 - expected)).sum().sqrt()
        assert abs((gates[:, 1] > 0).sum() - expected.sum()) < 4 * deviation
        made = gates[:, 1] > 0
        torch.testing.assert_close(gates[made, 1], second[made])
        assert (gates[:, 0] > 0).all()

    def test_is_always_made_in_evaluation(self, dispatcher):
        moe, x = self.layer(dispatcher, 100.0), torch.randn(2, 16, 8, dtype=torch.float64)
        always = config_of(dispatcher=dispatcher)
        torch.testing.assert_close(moe.eval()(x).y, by_token(moe, x, always)[0])

    def test_a_choice_not_made_contributes_nothing(self, dispatcher):
        moe, x = self.layer(dispatcher, 1e6), torch.randn(2, 16, 8, dtype=torch.float64)
        single = config_of(top_k=1)  # its renormalised gate is 1, so divide by the first's
        routing = moe.router.route(x.flatten(0, 1) @ moe.router.w_ME + moe.router.bias_E)
        y = by_token(moe, x, single)[0].flatten(0, 1) * routing.gates[:, :1]
        torch.testing.assert_close(moe(x).y.flatten(0, 1), y)
        assert moe(x).dropped == 0

    def test_comes_out_the_same_from_a_restored_generator(self, dispatcher):
        moe, x = self.layer(dispatcher, 0.8), torch.randn(2, 16, 8, dtype=torch.float64)
        assert torch.equal(run(moe, x, 1).y, run(moe, x, 1).y)
        assert not torch.equal(run(moe, x, 1).y, run(moe, x, 2).y)


def by_slot(
    moe: MixtureOfExperts, x_BSM: Tensor, capacity: int, priority: str = "position"
) -> tuple[Tensor, float]:
    """Each row by itself: first choices in order of tokens, or of their gates, then second ones,
    while slots last."""
    y, lost, choices = torch.zeros_like(x_BSM), 0, 0
    w_in, w_out = moe.experts.w_in_EMH, moe.experts.w_out_EHM
    top_k = moe.router.top_k
    for b, row in enumerate(x_BSM):
        logits = row @ moe.router.w_ME + moe.router.bias_E
        gates, experts = logits.topk(top_k)
        gates, taken = gates.softmax(-1), dict.fromkeys(range(len(w_in)), 0)
        order = range(len(row))
        if priority == "gate":
            best = logits.softmax(-1).amax(-1).tolist()
            order = sorted(order, key=lambda s: (-best[s], s))
        for k, s in itertools.product(range(top_k), order):
            e = int(experts[s, k])
            choices += 1
            if taken[e] == capacity:
                lost += 1
                continue
            taken[e] += 1
            y[b, s] += gates[s, k] * (functional.gelu(row[s] @ w_in[e]) @ w_out[e])
    return y, lost / choices


@pytest.mark.parametrize(("factor", "capacity"), [(0.5, 4), (1.0, 8), (0.01, 2)])
def test_slots_go_to_first_choices_first_and_the_rest_are_dropped(factor, capacity):
    config = config_of(dispatcher="capacity")
    config.capacity_factor, config.min_capacity = factor, 2
    moe, x = moe_of(config), torch.randn(3, 16, 8, dtype=torch.float64)
    output, (y, lost) = moe(x), by_slot(moe, x, capacity)
    torch.testing.assert_close(output.y, y)
    assert float(output.dropped) == pytest.approx(lost)
    assert lost > 0


@settings(max_examples=40, deadline=None)
@given(
    experts=st.integers(2, 9),
    top_k=st.integers(1, 3),
    batch=st.integers(1, 3),
    length=st.integers(1, 20),
    factor=st.sampled_from([0.3, 1.0, 1.25]),
    priority=st.sampled_from(["position", "gate"]),
)
def test_any_shape_gives_its_slots_by_position_or_by_gate(
    experts, top_k, batch, length, factor, priority
):
    config = config_of(experts=experts, top_k=min(top_k, experts), dispatcher="capacity")
    config = replace(config, capacity_factor=factor, min_capacity=1, priority=priority)
    moe, x = moe_of(config), torch.randn(batch, length, 8, dtype=torch.float64)
    output, (y, lost) = moe(x), by_slot(moe, x, config.slots_per_expert(length), priority)
    torch.testing.assert_close(output.y, y)
    assert float(output.dropped) == pytest.approx(lost, abs=1e-6)


def test_of_equal_gates_the_earlier_token_has_priority():
    config = replace(config_of(dispatcher="capacity"), priority="gate", min_capacity=1)
    config.capacity_factor = 0.01
    moe, x = moe_of(config), torch.randn(2, 1, 8, dtype=torch.float64).expand(2, 16, 8)
    y = moe(x).y
    assert y[:, 0].any(-1).all()
    assert not y[:, 1:].any()


def layer_of(priority: str, *, drop_in_evaluation: bool = True) -> MixtureOfExperts:
    """An MoE layer of a model with few slots."""
    config = config_of(dispatcher="capacity")
    few = {"capacity_factor": 0.5, "min_capacity": 1}
    config = replace(config, priority=priority, drop_in_evaluation=drop_in_evaluation, **few)
    layer = Glam(config).double().layers[1].ffn
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


@pytest.mark.parametrize(("priority", "drop"), [("gate", True), ("position", False)])
def test_outside_training_nothing_is_dropped_where_that_looks_ahead_or_is_not_wanted(
    priority, drop
):
    layer = layer_of(priority, drop_in_evaluation=drop)
    x = torch.randn(2, 16, 8, dtype=torch.float64)
    assert layer(x).dropped > 0
    evaluated = layer.eval()(x)
    assert evaluated.dropped == 0
    torch.testing.assert_close(evaluated.y, by_token(layer, x, config_of())[0])


@pytest.mark.parametrize("looks_ahead", [True, False])
def test_by_gate_a_token_depends_on_later_ones_in_training_alone(looks_ahead):
    layer = layer_of("gate").train(looks_ahead)
    x = torch.randn(1, 16, 8, dtype=torch.float64)
    differ = []
    for _ in range(20):
        other = torch.cat([x[:, :8], 2 * torch.randn(1, 8, 8, dtype=torch.float64)], 1)
        differ.append(not torch.allclose(layer(x).y[:, :8], layer(other).y[:, :8]))
    assert any(differ) == looks_ahead


def test_by_position_held_out_text_has_drops_as_before():
    layer, x = layer_of("position").eval(), torch.randn(2, 16, 8, dtype=torch.float64)
    assert layer(x).dropped > 0


def test_a_token_without_a_slot_has_no_output():
    config = config_of(dispatcher="capacity")
    config.capacity_factor, config.min_capacity = 0.01, 1
    moe, x = moe_of(config), torch.randn(1, 16, 8, dtype=torch.float64)
    with torch.no_grad():
        moe.router.w_ME.zero_()
        moe.router.bias_E.copy_(torch.tensor([3.0, 2, 1, 0]))  # all want experts 0 and 1
    y = moe(x).y[0]
    assert y[0].any()
    assert not y[1:].any()
    assert float(moe(x).dropped) == pytest.approx(1 - 2 / 32)


def test_capacity_equals_grouped_when_nothing_is_dropped():
    x, outputs = torch.randn(4, 33, 8), []
    for dispatcher in ("grouped", "capacity"):
        torch.manual_seed(1)
        moe = moe_of(config_of(experts=8, dispatcher=dispatcher)).float()
        outputs.append(moe(x))
    torch.testing.assert_close(outputs[0], outputs[1])
    assert outputs[1].dropped == 0
