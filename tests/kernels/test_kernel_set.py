"""The set's name is of what calls find in the library."""

import pytest

from glam import kernels
from glam.kernels.instruction_sets import OURS
from glam.kernels.kernel_set import TORCH, kernel_set


def test_switched_off_the_set_is_torchs_operators():
    with kernels.switched_off():
        assert kernel_set("float32") == kernel_set("bfloat16") == TORCH


class Library(dict[str, None]):
    """One that has the given functions, and multiplies float32 by AVX2."""

    @staticmethod
    def kernel_set() -> bytes:
        return b"avx2"


@pytest.mark.parametrize(
    ("functions", "bfloat16"),
    [
        ((), "elementwise"),
        (("attention_forward_bf16",), "avx512"),
        (("attention_forward_bf16", "output_loss_bf16"), "amx"),
    ],
)
def test_a_set_is_named_after_the_widest_products_that_the_library_has(
    monkeypatch, functions, bfloat16
):
    monkeypatch.setattr("glam.kernels.build._loaded", lambda _: Library.fromkeys(functions))
    monkeypatch.setattr("glam.kernels.build._switched_off", False)
    monkeypatch.setattr("glam.kernels.kernel_set.has", lambda name: name in functions)
    assert kernel_set("bfloat16") == bfloat16
    assert kernel_set("float32") == "avx2"


@pytest.mark.usefixtures("kernels_here")
def test_the_functions_that_name_a_set_are_those_of_the_library():
    """A renamed function would make every set of bfloat16 `elementwise`."""
    from glam.kernels.contracts import SIGNATURES
    from glam.machine.processor import processor

    assert {"attention_forward", "output_loss"} <= set(SIGNATURES)
    assert kernel_set("float32") in OURS
    if "avx512f" in processor().instruction_sets:
        assert kernel_set("float32") == "avx512"
    if "amx_bf16" in processor().instruction_sets:
        assert kernel_set("bfloat16") == "amx"
