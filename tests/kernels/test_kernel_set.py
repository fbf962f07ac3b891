"""The set's name is of what calls find in the library."""

import pytest

from glam import kernels
from glam.kernels.kernel_set import TORCH, kernel_set


def test_switched_off_the_set_is_torchs_operators():
    with kernels.switched_off():
        assert kernel_set("float32") == kernel_set("bfloat16") == TORCH


@pytest.mark.parametrize(
    ("functions", "bfloat16", "float32"),
    [
        ((), "elementwise", "elementwise"),
        (("attention_forward_f32",), "elementwise", "avx512"),
        (("attention_forward_f32", "attention_forward_bf16"), "avx512", "avx512"),
        (
            ("attention_forward_f32", "attention_forward_bf16", "output_loss_bf16"),
            "amx",
            "avx512",
        ),
    ],
)
def test_a_set_is_named_after_the_widest_products_that_the_library_has(
    monkeypatch, functions, bfloat16, float32
):
    monkeypatch.setattr("glam.kernels.build._loaded", lambda _: dict.fromkeys(functions))
    monkeypatch.setattr("glam.kernels.build._switched_off", False)
    monkeypatch.setattr("glam.kernels.kernel_set.has", lambda name: name in functions)
    assert kernel_set("bfloat16") == bfloat16
    assert kernel_set("float32") == float32


@pytest.mark.usefixtures("kernels_here")
def test_the_functions_that_name_a_set_are_those_of_the_library():
    """A renamed function would make every set `elementwise`."""
    from glam.kernels.contracts import SIGNATURES
    from glam.machine.processor import processor

    assert {"attention_forward", "output_loss_bf16"} <= set(SIGNATURES)
    if "avx512f" in processor().instruction_sets:
        assert kernel_set("float32") == "avx512"
    if "amx_bf16" in processor().instruction_sets:
        assert kernel_set("bfloat16") == "amx"
