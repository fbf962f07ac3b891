"""The training step that torch_tpu lowers without a TPU, run by XLA's CPU on one virtual device and
on eight under the layout table, is the step of plain torch on one device."""

import importlib.util
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import pytest

from glam.composition.overrides import CONF
from glam.config import BALANCE_LOSSES, DISPATCHERS
from tests.planning import lowered_step
from tests.planning.lowered_step import Differences, differences
from tests.planning.test_preflight import composed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("torch_tpu"),
    pytest.mark.skipif(
        importlib.util.find_spec("torch_tpu") is None, reason="needs the extra tpu (make tpu)"
    ),
]

MODELS = sorted(file.stem for file in (CONF / "model").glob("[!_]*.yaml"))
LOOP = ("hardware.scan=true", "training.rematerialize=true", "model.num_layers=4")
STATIC = DISPATCHERS.where(lambda kind: kind.static_shapes)


@pytest.fixture(scope="module")
def elsewhere():
    with mock.patch.dict(os.environ, lowered_step.ENVIRONMENT):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            yield lambda *line, **faults: pool.submit(differences, line, **faults).result()


def agree(found: dict[int, Differences]) -> None:
    """Means are sums in float32; all else is in float64."""
    for devices in (1, 8):
        assert found[devices].loss < 1e-6
        assert found[devices].skipped == 0
        assert found[devices].means < 1e-6
        assert found[devices].state < 1e-10
        assert found[devices].weights < 1e-10


def form(model: str) -> tuple[str, ...]:
    """What is left of a model file where its sizes are small."""
    config = composed(f"model={model}")
    shape = config.model
    return (
        f"optimizer={config.optimizer.name}",
        f"model.num_experts={8 if shape.num_experts > 1 else 1}",
        f"model.moe_every={shape.moe_every}",
        f"model.top_k={shape.top_k}",
        f"model.capacity_factor={shape.capacity_factor}",
        f"model.logit_cap={'null' if shape.logit_cap is None else shape.logit_cap}",
        f"model.router.normalize={str(shape.router.normalize).lower()}",
        f"model.router.balance_loss={shape.router.balance_loss}",
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_small_form_of_every_model_file_trains_as_in_plain_torch(elsewhere, model):
    agree(elsewhere(*form(model)))


@pytest.mark.parametrize("dispatcher", STATIC)
@pytest.mark.parametrize("optimizer", ["adafactor", "adamw"])
def test_a_loop_whose_turns_are_computed_again_trains_as_in_plain_torch(
    elsewhere, optimizer, dispatcher
):
    experts = (f"model.dispatcher={dispatcher}", "model.num_experts=8")
    agree(elsewhere(f"optimizer={optimizer}", *experts, *LOOP))


@pytest.mark.parametrize("loss", list(BALANCE_LOSSES))
def test_every_balance_loss_trains_as_in_plain_torch(elsewhere, loss):
    # Few slots, so that choices are dropped; a cap on the logits; each layer computed again.
    line = ("model.capacity_factor=0.5", "model.min_capacity=1", "model.logit_cap=5")
    agree(
        elsewhere(
            *("optimizer=adamw", "model.num_experts=8"),
            *("training.rematerialize=true", f"model.router.balance_loss={loss}", *line),
        )
    )


def test_slots_by_gate_train_as_in_plain_torch(elsewhere):
    slots = ("model.priority=gate", "model.capacity_factor=0.5", "model.min_capacity=1")
    agree(elsewhere("optimizer=adamw", "model.num_experts=8", *slots, *LOOP))


@pytest.mark.parametrize("loss", ["gshard", "loss_free"])
def test_a_step_whose_gradients_are_nan_is_left_out_as_in_plain_torch(elsewhere, loss):
    agree(elsewhere(*form("glam_tiny"), f"model.router.balance_loss={loss}", poisoned=1))


def test_a_wrong_constant_in_the_lowered_step_is_found(elsewhere):
    line = form("glam_1b64e")
    agree(elsewhere(*line))
    faulty = elsewhere(*line, plant="constant")
    assert faulty[1].weights > 1e-5
    assert faulty[8].weights > 1e-5


def test_a_weight_that_the_lowered_step_splits_otherwise_than_the_table_is_found(elsewhere):
    """Its shards are not those that the layout table gives each device."""
    with pytest.raises(
        ValueError, match=r"could not broadcast .* shape \(4,16,6\) into .*\(2,16,12\)"
    ):
        elsewhere(*form("glam_1b64e"), plant="layout")
