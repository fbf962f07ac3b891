"""The TPU's own compiler, asked by the line a user types. In .venv-xla alone (make xla)."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch_xla")

from glam.config import ROOT
from glam.planning import tpu_compile

pytestmark = [pytest.mark.xla, pytest.mark.xdist_group("tpu")]  # one line is compiled for all

# Sizes that a chip's tiles divide, so that its arrays are not padded.
LINE = (
    *("task=plan", "task.compile=true", "task.format=json", "optimizer=adafactor"),
    *("hardware=tpu_v4_8", "hardware.mesh={expert:4,model:2}"),
    *("model.num_layers=2", "model.d_model=512", "model.d_ff=1024", "model.num_heads=4"),
    *("model.num_experts=8", "model.vocab_size=2048"),
    *("training.batch_size=8", "training.sequence_length=256"),
)


@pytest.fixture(scope="module")
def asked():
    """In a process of its own: XLA's runtime starts once in each."""
    line = [sys.executable, str(ROOT / "run.py"), *LINE]
    return subprocess.run(line, capture_output=True, text=True, timeout=500, check=True)


@pytest.fixture(scope="module")
def plan(asked):
    return json.loads(asked.stdout)


def test_a_mixture_of_experts_compiles_for_a_slice_that_is_not_here(plan):
    assert plan["compiled"]["fits"]
    assert plan["compiled"]["refusal"] is None


def test_what_outlasts_a_step_is_what_is_counted(plan):
    held = plan["bytes_per_device"]
    batch = 3 * 8 * plan["tokens_per_step"] / 4  # tokens, targets and segments, int64
    counted = held["weights"] + held["optimizer"] + batch
    assert plan["compiled"]["argument_bytes"] == pytest.approx(counted, rel=0.1)


def test_all_that_a_step_needs_is_within_a_quarter_of_the_count(plan):
    counted = plan["bytes_per_device"]["total"]
    assert plan["compiled"]["total_bytes"] == pytest.approx(counted, rel=0.25)


def test_products_are_those_counted_by_hand(plan):
    said = plan["compiled"]
    assert said["flops_comparable"]
    assert said["flops"] == pytest.approx(said["flops_by_hand"], rel=0.05)


def test_dense_weights_are_gathered_over_experts_and_expert_weights_never(plan):
    said = plan["compiled"]
    assert said["expert_weights_moved"] == 0
    assert not any("expert weights over" in name for name in said["gathers"])
    gathered = said["gathers"]["other weights over expert"]["count"]
    # For the forward and for the backward pass, each matrix that is split over `expert`: the
    # embedding and the gate, attention's four of both layers, a feed-forward's three.
    assert 13 <= gathered <= 2 * 13
    assert said["gathers"]["activations over model"]["count"] > 0
    # The embedding, for the vectors of tokens.
    assert said["gathers"].get("other weights over model", {"count": 0})["count"] <= 1


def test_the_compiler_keeps_its_notes_to_itself(asked):
    assert all(line.startswith("compile:") for line in asked.stderr.splitlines() if line.strip())


@pytest.mark.parametrize(
    ("said", "bytes_"),
    [
        ("Ran out of memory in memory space hbm. Used 35.17G of 30.75G hbm.", (35.17, 30.75)),
        ("Used 512.00M of 1.00G hbm. Exceeded hbm capacity", (0.5, 1.0)),
    ],
)
def test_what_the_compiler_says_of_too_large_a_program_is_read(said, bytes_):
    found = tpu_compile.too_large_for(RuntimeError(f"RESOURCE_EXHAUSTED: XLA:TPU compile: {said}"))
    assert (found.needed, found.available) == tuple(int(gib * 2**30) for gib in bytes_)


def test_another_error_of_the_compiler_is_not_taken_for_that():
    assert tpu_compile.too_large_for(RuntimeError("INTERNAL: Mosaic failed")) is None
