"""What does not fit a kernel is refused before it is read."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from glam import kernels
from glam.kernels import contracts
from glam.model.attention.cpu_kernel import weights_per_head
from glam.model.decoding.kernel_decoder import KernelDecoder

pytestmark = pytest.mark.usefixtures("kernels_here")
STEP = (0.9, 0.1, 1e-30, 1e-3, 1.0)  # of an optimizer
OUTSIDE = [-1, 5, -(2**63), 2**62]


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape)


def whole(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.int64)


def test_every_kernel_has_a_contract():
    by_itself = {"decode", "decode_ahead"}
    assert set(contracts.SIZES) == set(contracts.SIGNATURES) - by_itself


def test_a_tensor_of_another_type_is_refused():
    with pytest.raises(TypeError, match=r"gelu: argument 2 is a tensor of torch.bfloat16, not"):
        kernels.call("gelu", zeros(16), zeros(16).bfloat16(), 16)
    with pytest.raises(TypeError, match=r"add_narrow: argument 1 is a tensor of torch.float64"):
        kernels.call("add_narrow", zeros(16).double(), zeros(16).bfloat16(), 16)


@pytest.mark.parametrize("number", [torch.tensor(16), 16.0, None, "16"])
def test_a_number_of_another_kind_is_refused(number):
    with pytest.raises(TypeError, match=r"gelu: argument 3 is a .*, not what 'n' stands for"):
        kernels.call("gelu", zeros(16), zeros(16), number)


def test_a_tensor_is_left_out_only_where_it_may_be():
    rows, chosen, y = zeros(3, 4), whole(2, 2), zeros(2, 4)
    kernels.call("sum_of_choices", rows, chosen, None, y, 2, 2, 4, 3)
    with pytest.raises(TypeError, match="sum_of_choices: argument 2 is a NoneType"):
        kernels.call("sum_of_choices", rows, None, None, y, 2, 2, 4, 3)


def test_a_tensor_with_gaps_or_elsewhere_is_refused():
    for y in (zeros(8, 2).t(), zeros(2, 16)[:, ::2], torch.zeros(2, 8, device="meta")):
        with pytest.raises(
            ValueError, match="gelu: argument 2 has to be contiguous and on the CPU"
        ):
            kernels.call("gelu", zeros(2, 8), y, 16)
    with FakeTensorMode():
        fake = torch.zeros(2, 8)
    with pytest.raises(ValueError, match="argument 2 has to be contiguous and on the CPU: Fake"):
        kernels.call("gelu", zeros(2, 8), fake, 16)
    kernels.call("gelu", zeros(2, 8), nn.Parameter(zeros(2, 8)), 16)


def test_too_few_arguments_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        kernels.call("gelu", zeros(16), zeros(16))


def arguments(name: str) -> list[Tensor | float | None]:
    """Such as the kernel takes, small and all of different lengths."""
    f = zeros
    if name.startswith("experts_") or name == "output_loss":
        pytest.skip("has shapes of its own below")
    kept = f(2 * 3 * weights_per_head(5))
    padded = 6 + 2 * contracts.PAD
    return {
        "gelu": [f(7), f(7), 7],
        "geglu": [f(7), f(7), f(7), 7],
        "gelu_backward": [f(7), f(7), f(7), 7],
        "geglu_backward": [f(7), f(7), f(7), f(7), f(7), 7],
        "gated_gelu_backward": [f(3, 5), f(3), f(3, 5), f(3, 5), f(3), 3, 5],
        "sum_of_choices": [f(5, 4), whole(3, 2), f(3, 2), f(3, 4), 3, 2, 4, 5],
        "rms_norm": [f(3, 5), f(5), f(3, 5), f(3), 3, 5, 1e-6],
        "rms_norm_backward": [f(3, 5), f(3, 5), f(5), f(3), f(3, 5), f(32, 5), 3, 5],
        "attention_weights": [
            f(6, 2, 5), f(3, padded), f(2, 7, 7), f(64, 5 + contracts.PAD), 2, 3, 2, 5, 6, 7, 0.5,
        ],
        "attention_weights_backward": [f(6, 2, 5), f(6, 2, 5), f(6, padded), 6, 2, 5, 6, 0.5],
        "cross_entropy": [f(3, 5), whole(3), f(3), f(64, 5), 3, 5, 0.0, 1],
        "pack_weights": [f(2 * 4 * 16), f(2, 3, 7), 2, 3, 7, 7, 1],
        "attention_forward": [
            f(2, 5, 3, 3, 4), f(3, padded), f(2, 5, 5), kept, f(2, 5, 3, 4), 2, 5, 3, 4, 6, 0.5,
        ],
        "attention_backward": [
            *(f(2, 5, 3, 3, 4), f(2, 5, 3, 4), kept, f(6, padded), f(2, 5, 3, 3, 4)),
            *(2, 5, 3, 4, 6, 0.5),
        ],
        "add_narrow": [f(7), f(7).bfloat16(), 7],
        "sort_by_expert": [whole(3, 2), whole(4), whole(3, 2), whole(9), 3, 2, 4, 9],
        "route": [f(3, 4), f(4), whole(3, 2), f(3, 2), f(3, 4), 3, 4, 2, 1],
        "route_backward": [
            f(3, 2), f(3, 4), whole(3, 2), f(3, 2), f(3, 4), f(3, 4), 3, 4, 2, 1,
        ],
        "adafactor": [f(2, 3, 5), f(2, 3, 5), f(2, 3), f(2, 5), 2, 3, 5, *STEP],
        "adafactor_vector": [f(7), f(7), f(7), 7, *STEP],
        "draw_tokens": [f(3, 5), f(3), whole(3), f(5), whole(5), 3, 5, 0.0, 1.0],
        "outside": [whole(7), 7, 3, 0],
        "feed_forward": [
            f(3, 5), f(5, 7), f(5, 7), f(7, 5), f(3, 32), f(3, 32), f(3, 5), 3, 5, 7,
        ],
        "feed_forward_backward": [
            *(f(3, 5), f(3, 5), f(5, 7), f(5, 7), f(7, 5), f(3, 32), f(3, 32)),
            *(f(3, 5), f(5, 7), f(5, 7), f(7, 5), 3, 5, 7),
        ],
        "linear": [f(3, 5), f(5, 7), f(3, 7), 3, 5, 7],
        "linear_backward": [f(3, 5), f(3, 7), f(5, 7), f(3, 5), f(5, 7), 3, 5, 7, 0],
    }[name]  # fmt: skip


PLAIN = [name for name in contracts.SIZES if not name.startswith(("experts_", "output_loss"))]


@pytest.mark.parametrize("name", PLAIN)
def test_a_tensor_one_element_short_is_refused_wherever_it_stands(name):
    whole_attention = name in ("attention_forward", "attention_backward")
    if whole_attention and not kernels.has_gemm(torch.float32):
        pytest.skip("no products of our own here")
    given = arguments(name)
    kernels.call(name, *given)
    at_least = {"attention_weights": {3}, "cross_entropy": {3}}.get(name, set())
    for place, value in enumerate(given):
        if not isinstance(value, Tensor):
            continue
        short = value.flatten()[: value.numel() - 1]
        if place in at_least:
            short = short[:3]
        wrong = [*given[:place], short, *given[place + 1 :]]
        with pytest.raises(ValueError, match=rf"^{name}: tensor {place + 1} has \d+ elements, and"):
            kernels.call(name, *wrong)


@pytest.mark.parametrize("wrong", OUTSIDE)
def test_a_row_that_there_is_not_is_not_read(wrong):
    rows, chosen, y = torch.randn(5, 4), torch.tensor([[0, 1], [4, 2], [3, 3]]), zeros(3, 4)
    kernels.call("sum_of_choices", rows, chosen, None, y, 3, 2, 4, 5)
    torch.testing.assert_close(y, rows[chosen].sum(1))
    chosen[1, 1] = wrong
    with pytest.raises(IndexError, match="sum_of_choices: an index is outside of what"):
        kernels.call("sum_of_choices", rows, chosen, None, y, 3, 2, 4, 5)


@pytest.mark.parametrize("wrong", OUTSIDE)
def test_an_expert_that_there_is_not_gets_no_row(wrong):
    experts = torch.tensor([[0, 1], [4, 2], [3, wrong]])
    with pytest.raises(IndexError, match="sort_by_expert: an index is outside"):
        kernels.call("sort_by_expert", experts, whole(5), whole(6), whole(6), 3, 2, 5, 6)
    grads, all_grads = zeros(3, 2), zeros(3, 5)
    outputs = (zeros(3, 2), zeros(3, 5), zeros(3, 5))
    with pytest.raises(IndexError, match="route_backward: an index is outside"):
        kernels.call("route_backward", grads, all_grads, experts, *outputs, 3, 5, 2, 1)


@pytest.mark.parametrize("first", [[0, 3], [0, 2], [5, 0], [-1, 3]])
def test_rows_beyond_the_last_are_not_written(first):
    experts, rows = torch.tensor([[0, 1], [1, 1], [0, 1]]), whole(5)
    with pytest.raises(IndexError, match="sort_by_expert: an index is outside"):
        kernels.call(
            "sort_by_expert", experts, torch.tensor(first), whole(6), rows, 3, 2, 2, len(rows)
        )


def experts_call(dtype, first_rows, tokens, *, T=7, M=32):
    E, H, rows = 2, 32, 32
    w, f = zeros(E, M, H), first_rows
    outputs = zeros(rows, H).to(dtype), zeros(rows, M).to(dtype)
    inputs = torch.zeros(T, M, dtype=dtype), w, w.clone(), torch.tensor(f), tokens
    kernels.call("experts_forward", *inputs, *outputs, E, M, H, 1)
    of_rows = torch.zeros(rows, H, dtype=dtype), zeros(rows)
    made = torch.zeros(rows, M, dtype=dtype), zeros(rows), zeros(E, M, H), zeros(E, M, H)
    x = inputs[0]
    kernels.call("experts_backward", x, x.clone(), *inputs[1:], *of_rows, *made, E, M, H, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_experts_rows_and_their_tokens_are_those_that_there_are(dtype):
    if not kernels.has_gemm(dtype):
        pytest.skip("no products of our own here")
    tokens = torch.arange(32) % 7
    experts_call(dtype, [0, 16, 32], tokens)
    wrong_rows = [[0, 16, 48], [16, 0, 32], [-16, 0, 16], [0, 2**62, 32]]
    if dtype == torch.bfloat16:
        wrong_rows.append([0, 3, 32])
    for first in wrong_rows:
        with pytest.raises(IndexError, match=r"experts_forward: tensor 4 has numbers .* 0 to 32"):
            experts_call(dtype, first, tokens)
    for wrong in (7, -1, 2**60):
        with pytest.raises(IndexError, match=r"experts_forward: tensor 5 has numbers .* 0 to 6"):
            experts_call(dtype, [0, 16, 32], tokens.index_fill(0, torch.tensor(3), wrong))
    if dtype == torch.float32:
        experts_call(dtype, [0, 3, 32], tokens, M=33)  # any width, any number of rows
        return
    with pytest.raises(ValueError, match="experts_forward: a width of 33 is no multiple of 32"):
        experts_call(dtype, [0, 16, 32], tokens, M=33)


@pytest.mark.parametrize("wrong", OUTSIDE)
@pytest.mark.parametrize("row", [0, 1, 2], ids=["token", "text", "position"])
def test_decoding_refuses_what_is_not_in_the_vocabulary_or_the_cache(tiny, row, wrong):
    decoder = KernelDecoder(tiny)
    decoder.start([[1, 2], [3]], room=3)
    columns = torch.tensor([[1, 2], [0, 1], [2, 1], [1, 1]])
    run = decoder.bound(columns, zeros(2, tiny.config.vocab_size))
    run()
    columns[row, 1] = wrong if wrong != 5 else 10**6
    with pytest.raises(IndexError, match="decode: an index is outside of what it indexes"):
        run()


def test_decoding_refuses_tables_and_logits_of_another_size(tiny):
    decoder = KernelDecoder(tiny)
    decoder.start([[1, 2], [3]], room=3)
    columns = torch.tensor([[1, 2], [0, 1], [2, 1], [1, 1]])
    with pytest.raises(ValueError, match=r"elements for logits, and .* are wanted"):
        decoder.bound(columns, zeros(2, tiny.config.vocab_size - 1))
    rest = (*decoder.tables(), zeros(2, tiny.config.vocab_size), 3, 0, 1, *decoder.numbers())
    with pytest.raises(ValueError, match="decode: tensor 1 has 2 elements, and its shape 3"):
        kernels.bind("decode", *columns.unbind(0), *rest)
    decoder.bias = decoder.bias[:, :-1].contiguous()
    with pytest.raises(ValueError, match="decode: tensor 10 has"):
        decoder.bound(columns, zeros(2, tiny.config.vocab_size))


@pytest.fixture
def tiny():
    from glam.config import ModelConfig
    from glam.model.glam import Glam

    torch.manual_seed(0)
    return Glam(
        ModelConfig(num_layers=2, d_model=16, d_ff=32, num_heads=2, num_experts=4, vocab_size=40)
    ).eval()
