"""Processes along two axes, expert by model, and steps of one shape, against one process."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import test_fsdp
import toy
import torch
from breaking import break_off
from processes import together
from test_fsdp import OPTIMIZERS, assert_same_run, judged, local, weights, whole

from glam.config import HardwareConfig
from glam.engines import fsdp
from glam.model import Glam

# The paper's table (conf/hardware/_two_dimensional.yaml).
RULES = {
    "batch": "expert",
    "experts": "expert",
    "embed": "expert",
    "heads": "model",
    "hidden": "model",
    "vocab": "model",
}
WIDE = {**RULES, "activation": "model"}


def hardware(mesh, rules=RULES, runtime=None):
    return HardwareConfig(
        name="two_axes",
        device="cpu",
        runtime=runtime,
        precision="float32",
        mesh=mesh,
        rules=rules,
        memory_gb=1,
        peak_tflops=1,
        share_of_peak=0.1,
    )


def config(mesh=None, *, rules=RULES, runtime=None, dispatcher="grouped", again=False, **changes):
    """A model that eight processes can split; of one process without a mesh."""
    made = test_fsdp.config(**changes)
    return replace(
        made,
        model=replace(made.model, dispatcher=dispatcher, capacity_factor=1.25),
        training=replace(made.training, rematerialize=again),
        **({"hardware": hardware(mesh, rules, runtime)} if mesh else {}),
    )


ADAFACTOR = {"optimizer": OPTIMIZERS["adafactor"]}
ADAMW = {"optimizer": OPTIMIZERS["adamw"]}


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory):
    path = tmp_path_factory.mktemp("one")
    test_fsdp.run(path / "grouped", config(**ADAFACTOR))
    test_fsdp.run(path / "seats", config(dispatcher="capacity", **ADAFACTOR))
    test_fsdp.run(path / "adamw", config(dispatcher="capacity", **ADAMW))
    return path


def in_two(path):
    test_fsdp.run(path / "grouped", config({"expert": 1, "model": 2}, **ADAFACTOR))


def in_four(path):
    test_fsdp.run_and_judge(path / "grouped", config({"expert": 2, "model": 2}, **ADAFACTOR))


def in_eight(path):
    made = config({"expert": 4, "model": 2}, rules=WIDE, runtime="torch_tpu", again=True, **ADAMW)
    test_fsdp.run(path / "adamw", made)


def test_two(tmp_path, in_one_process):
    together(2, in_two, tmp_path)
    assert_same_run(tmp_path / "grouped", in_one_process / "grouped")


def test_four(tmp_path, in_one_process):
    together(4, in_four, tmp_path)
    assert_same_run(tmp_path / "grouped", in_one_process / "grouped")


def test_eight(tmp_path, in_one_process):
    together(8, in_eight, tmp_path)
    assert_same_run(tmp_path / "adamw", in_one_process / "adamw")
