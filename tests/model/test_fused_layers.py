"""Layers through `torch.compile`: every model in one piece, and one program for all layers of a
kind. What a GPU's compiler makes of the programs is not seen here: operators run them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glam.composition.overrides import choices
from glam.config import ModelConfig
from glam.evaluation.experts.routes import routing_of
from glam.model import Glam
from glam.model.backend import Backend
from glam.model.fused_layers import FusedLayers

ROOT = Path(__file__).parents[2]
MODELS = [name for name in choices("model") if not name.startswith("_")]


def compiling(*words):
    """What tests/model/compiling.py prints."""
    line = [sys.executable, str(Path(__file__).with_name("compiling.py")), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


# Not one more for another routing, other documents, another layer or the backward pass.
OF_TWO_KINDS_OF_LAYERS = 2


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.usefixtures("torch_of_gpus")
def test_compiled_layers_train_as_layers_do_operator_by_operator(kind):
    for found in compiling("train", kind).values():
        assert found["difference"] < 1e-6
        assert found["programs"] == OF_TWO_KINDS_OF_LAYERS


@pytest.mark.slow
@pytest.mark.usefixtures("torch_of_gpus")
def test_so_do_random_second_experts_those_with_slots_and_choices_by_a_bias():
    for found in compiling("train", "random", "capacity", "gate", "loss_free").values():
        assert found["difference"] < 1e-6
        assert found["programs"] == OF_TWO_KINDS_OF_LAYERS


def check(found):
    assert found
    for name, one in found.items():
        assert one["programs"] == one["kinds"], name


@pytest.mark.usefixtures("torch_of_gpus")
def test_the_default_model_and_the_paper_s_largest_have_no_graph_break():
    check(compiling("trace", "glam_tiny", "glam_64b64e"))


@pytest.mark.slow
@pytest.mark.usefixtures("torch_of_gpus")
def test_no_model_has_a_graph_break():
    check(compiling("trace", *MODELS))


def test_without_gradients_layers_run_by_operators_and_hooks_see_their_routers():
    config = ModelConfig(
        vocab_size=64, num_layers=4, d_model=32, d_ff=64, num_heads=2, num_experts=4
    )

    def refuse(graph, inputs):
        raise AssertionError("compiled")

    fused = Glam(config, backend=Backend(run_layers=FusedLayers(whole=True, backend=refuse)))
    plain = Glam(config)
    tokens = torch.randint(64, (2, 9))
    with torch.no_grad(), routing_of(fused) as seen:
        assert torch.equal(fused(tokens).logits, plain(tokens).logits)
    assert list(seen) == [1, 3]
