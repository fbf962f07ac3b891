"""Processes along two axes, expert by model, and steps of one shape, against one process."""

import json
from dataclasses import replace

import pytest
import test_fsdp
import torch
from breaking import break_off
from processes import together
from recorded import OF_A_TPU, Recorded
from test_fsdp import OPTIMIZERS, assert_same_run, column, judged, weights
from torch.optim import adam

from glam.config import HardwareConfig
from glam.engines import fsdp
from glam.engines.accelerator import PlainAccelerator
from glam.model import Glam
from glam.training import traced

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


STEPS = 6
ADAFACTOR = {"optimizer": OPTIMIZERS["adafactor"], "steps": STEPS}
STEPS_OF_ONE_SHAPE = 4
ADAMW = {"optimizer": OPTIMIZERS["adamw"], "steps": STEPS_OF_ONE_SHAPE}
SEATS = {"runtime": "torch_tpu", "dispatcher": "capacity"}


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory):
    path = tmp_path_factory.mktemp("one")
    test_fsdp.run(path / "grouped", config(**ADAFACTOR))
    test_fsdp.run(path / "seats", config(dispatcher="capacity", **ADAFACTOR))
    test_fsdp.run(path / "adamw", config(dispatcher="capacity", **ADAMW))
    return path


class CpuAsChip(PlainAccelerator):
    device = "cpu"


def in_eight(path):
    """First without a shape that is fixed: rows travel in uneven numbers. Then steps of one shape,
    as a TPU takes them; each process keeps what it asked of torch."""
    uneven = config({"expert": 4, "model": 2}, **ADAFACTOR)
    with Recorded() as asked:
        test_fsdp.run_and_judge(path / "grouped", uneven)
    assert asked.uneven > 0
    made = config({"expert": 4, "model": 2}, rules=WIDE, again=True, **SEATS, **ADAMW)
    recorded, once = Recorded(), traced.TracedModule.optimizer_step

    def optimizer_step(self, *arguments):
        with recorded.step():
            once(self, *arguments)

    traced.TracedModule.optimizer_step = optimizer_step
    # AdamW in the form for a device that compiles, which torch keeps from the CPU.
    traced.is_compiled = lambda device: True
    adam._get_capturable_supported_devices = lambda *_, **__: ["cpu"]
    fsdp.accelerator = lambda device: CpuAsChip()
    with recorded:
        test_fsdp.run(path / "adamw", made)
    rank = torch.distributed.get_rank()
    found = {
        "collectives": sorted(recorded.collectives),
        "uneven": recorded.uneven,
        "steps": len(recorded.steps),
        "reads": sum(name == "_local_scalar_dense" for step in recorded.steps for name, *_ in step),
        # The first step sets up what FSDP and DTensor keep.
        "graphs": len({tuple(step) for step in recorded.steps[1:]}),
    }
    (path / f"asked-{rank}.json").write_text(json.dumps(found))


def in_four(path):
    made = config({"expert": 2, "model": 2}, **SEATS, **ADAFACTOR)
    break_off(test_fsdp.run, path / "seats", made, 2)


def in_two(path):
    test_fsdp.run(path / "alone", config({"expert": 1, "model": 2}, **ADAFACTOR))
    test_fsdp.run(path / "seats", config({"expert": 2, "model": 1}, **SEATS, **ADAFACTOR))


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Runs of eight processes, 4 by 2."""
    path = tmp_path_factory.mktemp("eight")
    together(8, in_eight, path)
    return path


def test_eight_processes_take_steps_of_one_shape_by_the_collectives_of_a_tpu(eight, in_one_process):
    assert_same_run(eight / "adamw", in_one_process / "adamw")
    for rank in range(8):
        asked = json.loads((eight / f"asked-{rank}.json").read_text())
        assert set(asked["collectives"]) <= OF_A_TPU
        assert {"alltoall_base_", "_allgather_base_"} <= set(asked["collectives"])
        assert asked["uneven"] == 0
        assert (asked["steps"], asked["graphs"], asked["reads"]) == (STEPS_OF_ONE_SHAPE, 1, 0)


@pytest.fixture(scope="module")
def moved(tmp_path_factory, in_one_process):
    """Runs of four processes, 2 by 2; one of them was broken off, and went on in one process and
    then in two."""
    path = tmp_path_factory.mktemp("moved")
    together(4, in_four, path)
    break_off(test_fsdp.run, path / "seats", config(dispatcher="capacity", **ADAFACTOR), 4)
    together(2, in_two, path)
    return path


def test_rows_that_travel_in_uneven_numbers_along_two_axes_train_as_in_one_process(
    eight, in_one_process
):
    assert_same_run(eight / "grouped", in_one_process / "grouped")


def test_the_second_axis_alone_trains_as_one_process(moved, in_one_process):
    assert_same_run(moved / "alone", in_one_process / "grouped")


def test_a_run_goes_on_along_other_axes_and_by_other_engines(moved, in_one_process):
    assert_same_run(moved / "seats", in_one_process / "seats")
    dropped = column(moved / "seats", "dropped/1")
    assert dropped == pytest.approx(column(in_one_process / "seats", "dropped/1"), abs=1e-5)
    assert max(dropped) > 0


def test_tasks_are_judged_by_processes_along_two_axes_as_by_one(eight, in_one_process):
    nats, texts = json.loads((eight / "grouped" / "judged.json").read_text())
    model = Glam(config().model)
    model.load_state_dict(weights(in_one_process / "grouped"))
    expected = judged(model)
    assert nats == pytest.approx(expected[0], abs=1e-3)
    assert texts == expected[1]
