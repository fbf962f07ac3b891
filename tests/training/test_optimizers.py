import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glam import kernels
from glam.config import AdafactorConfig, AdamWConfig, OptimizerConfig
from glam.training.optimizers import Adafactor, build_optimizer


def defined(parameter, gradients, config):
    """Adafactor as the paper writes it, in float64, one matrix or vector, all steps."""
    p = parameter.double()
    rows = columns = square = 0.0
    for t, gradient in enumerate(gradients, start=1):
        beta2 = min(config.beta2, 1 - t**-config.beta2_decay)
        g2 = gradient.double() ** 2 + config.eps_factor
        if p.ndim == 2:
            rows = beta2 * rows + (1 - beta2) * g2.mean(1)
            columns = beta2 * columns + (1 - beta2) * g2.mean(0)
            second = rows[:, None] * columns[None, :] / rows.mean()
        else:
            second = square = beta2 * square + (1 - beta2) * g2
        update = gradient.double() / second.sqrt()
        update = update / max(1.0, update.square().mean().sqrt() / config.clip_threshold)
        scale = max(config.eps_scale, p.square().mean().sqrt())
        p = p - config.learning_rate * scale * update
    return p


def run(parameter, gradients, config):
    weight = nn.Parameter(parameter.clone())
    optimizer = Adafactor([weight], config)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        assert torch.equal(weight.grad.nan_to_num(), gradient.nan_to_num())
    return weight.detach()


@pytest.mark.parametrize("shape", [(24, 40), (17,), (1, 8)])
@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-8])
def test_adafactor_is_its_written_out_definition(shape, size):
    torch.manual_seed(0)
    parameter = torch.randn(shape)
    gradients = [size * torch.randn(shape) * 3 ** (i % 5) for i in range(30)]
    config = AdafactorConfig()
    found = run(parameter, gradients, config)
    expected = defined(parameter, gradients, config)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_one_step_agrees_to_a_millionth():
    torch.manual_seed(1)
    parameter, gradient = torch.randn(64, 32), 1e-5 * torch.randn(64, 32)
    config = AdafactorConfig()
    expected = defined(parameter, [gradient], config) - parameter.double()
    step = run(parameter, [gradient], config).double() - parameter.double()
    assert (step - expected).abs().max() < 1e-6


def test_each_expert_is_updated_as_if_it_were_alone():
    torch.manual_seed(2)
    stacked = torch.randn(3, 8, 12) * torch.tensor([1.0, 100.0, 1e-5])[:, None, None]
    gradients = [torch.randn(3, 8, 12) * (10.0 ** (i - 2)) for i in range(4)]
    config = AdafactorConfig(clip_threshold=0.5)
    together = run(stacked, gradients, config)
    for expert in range(3):
        alone = run(stacked[expert], [g[expert] for g in gradients], config)
        torch.testing.assert_close(together[expert], alone, rtol=2e-6, atol=0)


@pytest.mark.parametrize("in_cache", [1, 40, 100, 17 * 8, 300])
def test_the_pieces_of_large_matrices_do_not_show(in_cache, monkeypatch):
    torch.manual_seed(4)
    weight, gradients = torch.randn(3, 17, 8), [torch.randn(3, 17, 8) for _ in range(3)]
    whole = run(weight, gradients, AdafactorConfig())
    monkeypatch.setattr("glam.training.optimizers.IN_CACHE", in_cache)
    torch.testing.assert_close(run(weight, gradients, AdafactorConfig()), whole)


def test_rows_of_zeros_stay_where_they_are():
    weight = torch.randn(6, 5)
    gradients = [torch.randn(6, 5) for _ in range(3)]
    for gradient in gradients:
        gradient[2] = 0
        gradient[:, 4] = 0
    after = run(weight, [*gradients, torch.zeros(6, 5)], AdafactorConfig())
    assert after.isfinite().all()
    assert torch.equal(after[2], weight[2])
    assert torch.equal(after[:, 4], weight[:, 4])


def test_rows_of_zeros_beside_enormous_ones_stay_finite():
    gradient = 3e4 * torch.randn(8, 6)
    gradient[3] = 0
    weight = torch.randn(8, 6)
    after = run(weight, [gradient], AdafactorConfig())
    assert after.isfinite().all()
    assert torch.equal(after[3], weight[3])


@pytest.mark.parametrize("shape", [(5, 6), (40, 33)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e25])
def test_a_gradient_beyond_float32_is_seen_in_the_whole_matrix(bad, shape):
    """1e25 is in it, its square is not. A bound in the wrong place would make large numbers of it,
    which train on."""
    weight, gradient = torch.randn(3, *shape), torch.randn(3, *shape)
    gradient[1, 2, 3] = bad
    after = run(weight, [gradient], AdafactorConfig())
    assert after[1].isnan().all()
    assert after[[0, 2]].isfinite().all()


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e25])
def test_and_in_a_whole_vector(bad, served, monkeypatch):
    if not served:
        monkeypatch.setattr(kernels, "supported", lambda *tensors: False)
    gradient = torch.randn(40)
    gradient[3] = bad
    assert run(torch.randn(40), [gradient], AdafactorConfig()).isnan().all()


@pytest.mark.parametrize("shape", [(24, 40), (3, 8, 12), (17,), (1,), (200,)])
def test_kernels_do_what_torch_does(shape, monkeypatch):
    torch.manual_seed(5)
    weight, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(5)]
    found = run(weight, gradients, AdafactorConfig())
    monkeypatch.setattr(kernels, "supported", lambda *tensors: False)
    expected = run(weight, gradients, AdafactorConfig())
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-6)


def test_a_weight_that_is_no_number_is_seen_in_the_whole_matrix():
    weight = torch.randn(5, 6)
    weight[2, 3] = torch.nan
    assert run(weight, [torch.randn(5, 6)], AdafactorConfig()).isnan().all()


def test_the_first_step_has_no_memory_and_rank_one_gradients_move_by_their_sign():
    # t = 1 gives beta2 = 0, and a rank-one square is factored exactly: the update is the sign.
    gradient = torch.outer(torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.1, 5.0]))
    weight = torch.full((3, 2), 2.0)
    after = run(weight, [gradient], AdafactorConfig(learning_rate=0.01))
    torch.testing.assert_close(after, weight - 0.01 * 2.0 * gradient.sign())


def test_a_parameter_of_zeros_moves_by_the_smallest_scale():
    config = AdafactorConfig(learning_rate=0.1, eps_scale=1e-3)
    after = run(torch.zeros(4), [torch.ones(4)], config)
    torch.testing.assert_close(after, torch.full((4,), -1e-4))


def test_an_update_is_clipped_to_the_threshold():
    # Quiet for long, then one loud gradient: unclipped it would be 10 times the usual step.
    config = AdafactorConfig(learning_rate=1.0)
    quiet = [torch.full((4, 4), 1e-3)] * 50
    before = run(torch.ones(4, 4), quiet, config)
    after = run(torch.ones(4, 4), [*quiet, torch.ones(4, 4)], config)
    rms = (after - before).square().mean().sqrt() / before.square().mean().sqrt()
    assert math.isclose(rms, 1.0, rel_tol=1e-5)


def test_the_state_holds_no_tensor_of_a_matrix_size():
    weight = nn.Parameter(torch.randn(4, 32, 16))
    optimizer = Adafactor([weight], AdafactorConfig())
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    sizes = {name: tuple(t.shape) for name, t in optimizer.state[weight].items() if name != "step"}
    assert sizes == {"rows": (4, 32, 1), "columns": (4, 1, 16)}


def test_adafactor_goes_on_from_a_saved_state_bit_for_bit():
    torch.manual_seed(3)
    gradients = [torch.randn(5, 7) for _ in range(6)]
    straight = run(torch.ones(5, 7), gradients, AdafactorConfig())
    weight = nn.Parameter(torch.ones(5, 7))
    optimizer = Adafactor([weight], AdafactorConfig())
    for number, gradient in enumerate(gradients):
        if number == 3:
            state = copy.deepcopy(optimizer.state_dict())
            optimizer = Adafactor([weight], AdafactorConfig())
            optimizer.load_state_dict(state)
        weight.grad = gradient.clone()
        optimizer.step()
    assert torch.equal(straight, weight.detach())


@settings(max_examples=60, deadline=None)
@given(
    experts=st.sampled_from([None, 1, 3]),
    a=st.sampled_from([1, 2, 31, 33, 70]),
    b=st.sampled_from([1, 2, 15, 33, 100]),
    size=st.sampled_from([1.0, 1e-3, 1e-6]),
    steps=st.integers(1, 6),
    clip=st.sampled_from([0.5, 1.0, 100.0]),
)
def test_in_float32_a_matrix_goes_where_it_does_in_float64(experts, a, b, size, steps, clip):
    shape = (a, b) if experts is None else (experts, a, b)
    parameter = torch.randn(shape) * 10 ** torch.randn((*shape[:-2], 1, 1))
    gradients = [size * torch.randn(shape) * 3**i for i in range(steps)]
    for number, gradient in enumerate(gradients):
        gradient[..., number % a, :] = 0  # a row that no token reached
    config = AdafactorConfig(clip_threshold=clip)
    found = run(parameter, gradients, config).double() - parameter.double()
    wide = [gradient.double() for gradient in gradients]
    exact = run(parameter.double(), wide, config) - parameter.double()
    # The sum with the parameter is rounded at every step; steps may cancel, of a usual size each.
    usual = exact.square().mean((-2, -1), keepdim=True).sqrt()
    rounding = 6e-8 * steps * parameter.double().abs()
    assert ((found - exact).abs() <= 1e-5 * (exact.abs() + usual) + 1.1 * rounding).all()


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (1, 9), (9, 1), (40, 33)])
def test_the_second_moments_are_those_of_float64(shape):
    torch.manual_seed(5)
    parameter, gradients = torch.randn(shape), [1e-4 * torch.randn(shape) for _ in range(4)]
    states = []
    for dtype in (torch.float32, torch.float64):
        weight = nn.Parameter(parameter.to(dtype))
        optimizer = Adafactor([weight], AdafactorConfig())
        for gradient in gradients:
            weight.grad = gradient.to(dtype)
            optimizer.step()
        states.append(optimizer.state[weight])
    for name in ("rows", "columns"):
        torch.testing.assert_close(states[0][name].double(), states[1][name], rtol=2e-6, atol=0)


@pytest.mark.parametrize("shape", [(5, 7), (2, 33, 20)])
def test_a_matrix_may_lie_in_any_order(shape):
    torch.manual_seed(6)
    parameter, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(3)]
    straight = run(parameter, gradients, AdafactorConfig())
    turned = [gradient.mT.contiguous().mT for gradient in gradients]
    torch.testing.assert_close(run(parameter, turned, AdafactorConfig()), straight)
    other = run(parameter.mT.contiguous().mT, gradients, AdafactorConfig())
    torch.testing.assert_close(other, straight)


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale_M = nn.Parameter(torch.ones(3))
        self.bias_NR = nn.Parameter(torch.ones(4, 2))
        self.w_in_MH = nn.Parameter(torch.ones(2, 3))
        self.w_in_EMH = nn.Parameter(torch.ones(2, 3, 4))


def test_only_matrices_decay():
    model = Parts()
    optimizer = build_optimizer(AdamWConfig(learning_rate=0.1, weight_decay=0.5), model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(model.scale_M, torch.ones(3))
    assert torch.equal(model.bias_NR, torch.ones(4, 2))
    assert torch.allclose(model.w_in_MH, torch.full((2, 3), 0.95))
    assert torch.allclose(model.w_in_EMH, torch.full((2, 3, 4), 0.95))


class Unbuilt(OptimizerConfig):
    def state_size(self, shape):
        return 0


def test_an_optimizer_without_a_build_is_named():
    with pytest.raises(NotImplementedError, match=r"Unbuilt has no build\(\)"):
        build_optimizer(Unbuilt(name="sgd", learning_rate=0.1), Parts())
