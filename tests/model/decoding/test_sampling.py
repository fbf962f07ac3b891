import pytest
import torch

from glam import kernels
from glam.model.decoding.sampling import Sampler, Sampling, choose, nucleus


def smallest_set(probabilities, top_p):
    """Add the likeliest until they reach top_p."""
    chosen, total = [], 0.0
    for index in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        if total >= top_p:
            break
        chosen.append(index)
        total += probabilities[index]
    return sorted(chosen)


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p):
    torch.manual_seed(0)
    for _ in range(20):
        probabilities = (3 * torch.randn(30)).double().softmax(-1)
        kept = nucleus(probabilities, top_p)
        assert kept.nonzero().flatten().tolist() == smallest_set(probabilities.tolist(), top_p)
        assert torch.equal(kept[kept > 0], probabilities[kept > 0])


def test_top_p_that_is_reached_exactly_needs_no_more():
    kept = nucleus(torch.tensor([0.25, 0.5, 0.25]), 0.5)
    assert kept.tolist() == [0, 0.5, 0]


def test_draws_follow_the_temperature():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    for temperature in (0.5, 2.0):
        sampler = Sampler(Sampling(temperature), 1)
        drawn = [sampler.tokens(logits, [0])[0] for _ in range(500)]
        shares = torch.bincount(torch.tensor(drawn), minlength=3) / 500
        expected = (logits[0] / temperature).softmax(-1)
        assert (shares - expected).abs().max() < 0.08


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 20.0])
@pytest.mark.parametrize("temperature", [0, 0.3, 1.0])
@pytest.mark.parametrize("top_p", [1e-6, 0.5, 0.95, 1.0])
def test_the_kernel_draws_the_same_tokens(kernels_here, spread, temperature, top_p):
    generator = torch.Generator().manual_seed(1)
    logits = spread * torch.randn(40, 301, generator=generator)
    numbers = torch.rand(40, generator=generator)
    tokens = torch.zeros(40, dtype=torch.int64)
    workspace = torch.empty(301), torch.empty(301, dtype=torch.int64)
    arrays = (logits, numbers, tokens, *workspace)
    assert not kernels.call("draw_tokens", *arrays, 40, 301, temperature, top_p)
    if temperature == 0:
        assert torch.equal(tokens, logits.argmax(-1))
        return
    rows = zip(logits, numbers.tolist(), strict=True)
    expected = torch.tensor([choose(row, temperature, top_p, number) for row, number in rows])
    assert (tokens != expected).sum() <= 1  # a number at the edge of two tokens


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_kernel_draws_nothing_from_useless_logits(kernels_here, value):
    logits = torch.zeros(2, 9)
    logits[1, 3] = value
    arrays = (torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    workspace = torch.empty(9), torch.empty(9, dtype=torch.int64)
    assert kernels.call("draw_tokens", logits, *arrays, *workspace, 2, 9, 1.0, 1.0)
