"""Which tensors have kernels; the tables of functions against the source; and that no result
depends on the number of threads."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from glam import kernels
from glam.kernels import build, contracts

pytestmark = pytest.mark.usefixtures("kernels_here")
SOURCE = "".join(Path(build.__file__).with_name(name).read_text() for name in build.KERNELS.sources)
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


class RemoteGrid(Tensor):
    """Such as a DTensor, whose pointer is not to its numbers."""


def test_plain_tensors_and_parameters_are_supported():
    for dtype in DTYPES:
        assert kernels.supported(torch.zeros(2, dtype=dtype))
        assert kernels.supported(nn.Parameter(torch.zeros(2, dtype=dtype)))
    assert kernels.supported(torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.complex64])
def test_no_other_type_is_supported(dtype):
    assert not kernels.supported(torch.zeros(2, dtype=dtype))
    assert not kernels.supported(torch.zeros(2), torch.zeros(2, dtype=dtype))


def test_no_tensor_without_numbers_is_supported():
    assert not kernels.supported(torch.zeros(2, device="meta"))
    with FakeTensorMode():
        assert not kernels.supported(torch.zeros(2))


def test_no_subclass_is_supported():
    assert not kernels.supported(torch.zeros(2).as_subclass(RemoteGrid))
    assert not kernels.supported(torch.zeros(2), torch.zeros(2).as_subclass(RemoteGrid))


def test_nothing_is_supported_while_kernels_are_switched_off():
    with kernels.switched_off():
        assert not kernels.supported(torch.zeros(2))


def letter(parameter: str) -> str:
    kind = parameter.removeprefix("const ").split()[0]
    if "*" in parameter:
        return {"T": "x", "float": "s", "i64": "l", "bf16": "b", "void": "w"}[kind]
    return {"i64": "n", "float": "f", "int": "i"}[kind]


@pytest.mark.parametrize("name", contracts.WRITTEN)
def test_what_a_function_writes_is_what_the_source_does_not_call_const(name):
    written = rf"(?:OF\({name}\)|{name}(?:_f32|_bf16)?)"
    lists = re.findall(rf"^(?:void|int) {written}\(([^)]*)\) {{", SOURCE, re.MULTILINE)
    assert lists
    found = set[int]()
    for parameters in lists:
        found |= {
            place
            for place, parameter in enumerate(parameters.split(","))
            if "*" in parameter and "const" not in parameter
        }
    assert found == set(contracts.WRITTEN[name])


# What a letter of a TYPED function is where the source names the type: x and w are tensors in it.
WRITTEN = {"f32": {"x": "s", "w": "s"}, "bf16": {"x": "b"}}


@pytest.mark.parametrize("name", [*contracts.TYPED, *contracts.UNTYPED])
def test_the_parameters_of_a_function_are_those_of_the_source(name):
    letters, forms = contracts.SIGNATURES[name].lower() + "i", {name: dict[str, str]()}
    if name in contracts.TYPED:
        forms = {f"OF({name})": {}} | {f"{name}_{kind}": WRITTEN[kind] for kind in WRITTEN}
    found = set[str]()
    for written, types in forms.items():
        head = rf"^(?:void|int) {re.escape(written)}\(([^)]*)\) {{"
        for parameters in re.findall(head, SOURCE, re.MULTILINE):
            found.add(written)
            assert "".join(letter(parameter.strip()) for parameter in parameters.split(",")) == (
                "".join(types.get(expected, expected) for expected in letters)
            )
    assert len(found) == (2 if name in contracts.TYPED and f"OF({name})" not in found else 1)


def test_the_sizes_are_those_of_the_source():
    defined = dict(re.findall(r"^#define (\w+) +(\d+)", SOURCE, re.MULTILINE))
    sizes = [int(defined[name]) for name in ("CHUNKS", "PAD", "TILE")]
    assert sizes == [contracts.CHUNKS, contracts.PAD, contracts.TILE]


def same_for_any_threads(compute) -> None:
    """`compute` returns what a kernel wrote, from the same input each time."""
    results = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        results.append(compute())
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            assert torch.equal(one, same)
            assert not one.isnan().any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_do_not_depend_on_the_threads(dtype):
    a, b, c = torch.randn(3, 70001, dtype=dtype).unbind(0)

    def compute():
        out = [torch.empty_like(a) for _ in range(5)]
        kernels.call("gelu", a, out[0], len(a))
        kernels.call("geglu", a, b, out[1], len(a))
        kernels.call("gelu_backward", a, b, out[2], len(a))
        kernels.call("geglu_backward", a, b, c, out[3], out[4], len(a))
        return out

    same_for_any_threads(compute)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gated_rows_do_not_depend_on_the_threads(dtype):
    before, d = torch.randn(2, 301, 177, dtype=dtype).unbind(0)
    gates = torch.rand(301)

    def compute():
        out, gated, d_gates = d.clone(), torch.empty_like(d), torch.empty_like(gates)
        kernels.call("gated_gelu_backward", before, gates, out, gated, d_gates, *before.shape)
        return out, gated, d_gates

    same_for_any_threads(compute)


@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_choices_do_not_depend_on_the_threads(dtype, top_k):
    rows, gates = torch.randn(501, 133, dtype=dtype), torch.rand(300, top_k)
    where = torch.randint(0, 501, (300, top_k))

    def compute():
        y = rows.new_empty(300, 133)
        kernels.call("sum_of_choices", rows, where, gates, y, 300, top_k, 133, 501)
        return (y,)

    same_for_any_threads(compute)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_does_not_depend_on_the_threads(dtype):
    x, d_y = torch.randn(2, 1037, 67, dtype=dtype).unbind(0)
    scale = torch.randn(67)

    def compute():
        y, d_x, inverse = torch.empty_like(x), torch.empty_like(x), torch.empty(1037)
        d_scale = torch.empty(kernels.CHUNKS, 67)
        kernels.call("rms_norm", x, scale, y, inverse, 1037, 67, 1e-6)
        kernels.call("rms_norm_backward", d_y, x, scale, inverse, d_x, d_scale, 1037, 67)
        return y, inverse, d_x, d_scale

    same_for_any_threads(compute)


@pytest.mark.parametrize("cap", [0, 3.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_does_not_depend_on_the_threads(dtype, cap):
    logits, targets = torch.randn(61, 1009, dtype=dtype), torch.randint(0, 1009, (61,))

    def compute():
        made, losses = logits.clone(), torch.empty(61)
        scratch = torch.empty(torch.get_num_threads(), 1009)
        assert not kernels.call("cross_entropy", made, targets, losses, scratch, 61, 1009, cap, 1)
        return made, losses

    same_for_any_threads(compute)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_does_not_depend_on_the_threads(dtype, masked):
    batch, heads, rows, keys, window = 2, 3, 65, 193, 50
    products, d = torch.randn(2, batch * heads, rows, keys, dtype=dtype).unbind(0)
    bias = torch.randn(heads, window + 2 * kernels.PAD)
    bias[:, : kernels.PAD], bias[:, -kernels.PAD :] = 0, -torch.inf
    mask = torch.randn(batch, keys, keys, dtype=dtype) if masked else None

    def compute():
        weights, d_products = products.clone(), d.clone()
        d_bias = torch.zeros(batch * heads, window + 2 * kernels.PAD)
        scratch = torch.empty(torch.get_num_threads(), keys + kernels.PAD)
        sizes = (batch, heads, rows, keys, window, keys, 0.5)
        kernels.call("attention_weights", weights, bias, mask, scratch, *sizes)
        sizes = (batch * heads, rows, keys, window, 0.5)
        kernels.call("attention_weights_backward", d_products, weights, d_bias, *sizes)
        return weights, d_products, d_bias

    same_for_any_threads(compute)


@pytest.mark.parametrize("normalize", [True, False])
def test_routing_does_not_depend_on_the_threads(normalize):
    logits, d_gates, d_all = torch.randn(5003, 7), torch.randn(5003, 2), torch.randn(5003, 7)

    def compute():
        gates, experts = torch.empty(5003, 2), torch.empty(5003, 2, dtype=torch.int64)
        probabilities, d_logits = torch.empty(5003, 7), torch.empty(5003, 7)
        sizes = (5003, 7, 2, normalize)
        kernels.call("route", logits, None, experts, gates, probabilities, *sizes)
        arrays = (d_all.clone(), experts, gates, probabilities, d_logits)
        kernels.call("route_backward", d_gates, *arrays, *sizes)
        return experts, gates, probabilities, d_logits

    same_for_any_threads(compute)


@pytest.mark.parametrize("shape", [(1, 301, 257), (3, 190, 131), (40, 33, 31), (2, 1, 40001)])
def test_adafactor_does_not_depend_on_the_threads(shape):
    E, a, b = shape
    parameter, grad = torch.randn(2, *shape).unbind(0)

    def compute():
        p, rows, columns = parameter.clone(), torch.full((E, a), 0.3), torch.full((E, b), 0.2)
        numbers = (E, a, b, 0.9, 0.01, 1e-30, 1e-3, 1.0)
        assert not kernels.call("adafactor", p, grad, rows, columns, *numbers)
        return p, rows, columns

    same_for_any_threads(compute)


def test_what_takes_tensors_is_found_before_anything_else_has_imported_it():
    code = "import glam.kernels, sys; assert 'torch' not in sys.modules; glam.kernels.supported"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("cap", [0.0, 30.0])
def test_no_gradient_of_a_loss_is_a_subnormal_number(cap):
    """A product of many such numbers takes a hundred times as long."""
    logits = torch.linspace(-120, 0, 4096).repeat(4, 1)
    scratch = torch.empty(torch.get_num_threads(), 4096)
    targets, losses = torch.zeros(4, dtype=torch.int64), torch.empty(4)
    kernels.call("cross_entropy", logits, targets, losses, scratch, 4, 4096, cap, True)
    least = torch.finfo(torch.float32).tiny
    assert ((logits == 0) | (logits.abs() >= 1e9 * least)).all()
    assert (logits == 0).any() == (cap == 0)
