"""The TPU's compiler: what it says of programs and slices that it refuses."""

import importlib.util

import pytest

from glam.errors import UserError
from glam.planning import libtpu
from tests.planning.test_preflight import composed

NEW = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
    "required for HLO temporaries (40.10G) exceeds available HBM (30.75G). HLO module: step."
)


@pytest.mark.parametrize(
    ("said", "gibibytes"),
    [
        ("Ran out of memory in memory space hbm. Used 35.17G of 30.75G hbm.", (35.17, 30.75)),
        ("Used 512.00M of 1.00G hbm. Exceeded hbm capacity", (0.5, 1.0)),
        (NEW, (40.10, 30.75)),
    ],
)
def test_what_the_compiler_says_of_too_large_a_program_is_read(said, gibibytes):
    found = libtpu.too_large_for(RuntimeError(f"RESOURCE_EXHAUSTED: XLA:TPU compile: {said}"))
    assert (found.needed, found.available) == tuple(int(gib * 2**30) for gib in gibibytes)


def test_another_error_of_the_compiler_is_not_taken_for_that():
    assert libtpu.too_large_for(RuntimeError("INTERNAL: Mosaic failed")) is None


def test_arguments_are_weights_of_experts_other_weights_or_none():
    names = ["layers.1.ffn.experts.w_in_EMH", None, "embedding.w_VM"]
    asked = libtpu.Asked(b"", names, {})
    assert asked.parts({0, 1}) == {"experts"}
    assert asked.parts({2}) == {"other"}
    assert asked.parts({1}) == set()


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs the extra tpu")
def test_a_slice_that_the_generation_does_not_have_is_refused_with_a_way_out(monkeypatch):
    from jax.experimental import topologies

    def refuse(**_):
        raise RuntimeError("INVALID_ARGUMENT: not divisible by chips_per_host_bounds\nand more")

    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    odd = ("hardware.topology=v5e:3x5", "hardware.mesh={expert:15,model:1}")
    with pytest.raises(UserError) as refused:
        libtpu.described(composed("hardware=tpu_v5e_16", *odd).hardware)
    assert str(refused.value) == (
        "hardware.topology=v5e:3x5 is no slice for the TPU's compiler (INVALID_ARGUMENT: not "
        "divisible by chips_per_host_bounds); take the shape of a file of conf/hardware, such as "
        "hardware=tpu_v4_64"
    )
