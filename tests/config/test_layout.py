"""The layout table against the built model, and what it refuses."""

import dataclasses
import math
from collections import Counter

import pytest

from glam.config import HardwareConfig, ModelConfig, RouterConfig, RunConfig, TrainingConfig
from glam.config.layout import (
    LETTERS,
    check_divides,
    kind,
    letters,
    local_shape,
    parameters,
    partition,
)
from glam.errors import UserError
from glam.model import Glam
from glam.planning.paper import PAPER_MODELS

TWO_DIMENSIONAL = {
    **{"batch": "expert", "activation": "model", "experts": "expert", "embed": "expert"},
    **{"heads": "model", "hidden": "model", "vocab": "model"},
}


def slice_of(expert: int, model: int) -> HardwareConfig:
    return HardwareConfig(
        name="slice",
        device="tpu",
        mesh={"expert": expert, "model": model},
        rules=TWO_DIMENSIONAL,
        memory_gb=32,
        peak_tflops=275,
        share_of_peak=0.3,
    )


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(),
        ModelConfig(num_experts=1),
        ModelConfig(moe_every=0),
        ModelConfig(num_layers=5, moe_every=3, d_head=8),
        ModelConfig(moe_every=1),
        ModelConfig(router=RouterConfig(balance_loss="loss_free")),
    ],
)
def test_the_table_holds_every_weight_of_the_built_model_and_no_other(model):
    def known(name: str) -> str:
        """Without the layer's number; both norms of a layer are of one kind."""
        short = name.split(".", 2)[-1] if name.startswith("layers.") else name
        return "norm.scale_M" if short.endswith("scale_M") else short

    built = Counter((known(n), tuple(p.shape)) for n, p in Glam(model).named_parameters())
    told = Counter[tuple[str, tuple[int, ...]]]()
    for weight in parameters(model):
        told[weight.name, weight.shape] += weight.layers
    assert told == built


@pytest.mark.parametrize("name", PAPER_MODELS)
def test_parameters_by_part_add_up_to_the_count(name):
    model = PAPER_MODELS[name].config()
    counted = sum(w.layers * math.prod(w.shape) for w in parameters(model))
    assert counted == model.num_params + model.num_embedding_params


def test_every_letter_of_a_name_is_an_axis_of_the_weight():
    for weight in parameters(ModelConfig()):
        assert len(weight.letters) == len(weight.shape)
        assert set(weight.letters) <= set(LETTERS)


def test_weight_decay_is_for_matrices_that_are_no_biases():
    for name, parameter in Glam(ModelConfig()).named_parameters():
        is_matrix = parameter.ndim >= 2 and not name.endswith("bias_NR")
        assert kind(name).decays == is_matrix, name


def test_a_parameter_of_an_unknown_kind_is_refused():
    with pytest.raises(KeyError, match="weight"):
        kind("layers.0.ffn.weight")


def test_the_letters_of_a_name_are_its_last_part():
    assert letters("layers.1.ffn.experts.w_in_EMH") == "EMH"
    assert letters("layers.1.attention.position.bias_NR") == "NR"


@pytest.mark.parametrize(
    ("letters", "axes"),
    [
        ("EMH", ("expert", None, "model")),  # the paper, section 4
        ("EHM", ("expert", "model", None)),
        ("MH", ("expert", "model")),
        ("HM", ("model", "expert")),
        ("MA", ("expert", "model")),
        ("VM", ("model", "expert")),
        ("ME", ("expert", None)),
        ("M", (None,)),
    ],
)
def test_weights_are_split_as_the_paper_splits_them(letters, axes):
    assert partition(letters, slice_of(64, 16)) == axes


def test_without_rules_a_device_holds_everything():
    hardware = HardwareConfig()
    assert all(local_shape(w, hardware) == w.shape for w in parameters(ModelConfig()))


def test_a_split_weight_is_whole_over_all_devices():
    hardware = slice_of(4, 2)
    for weight in parameters(ModelConfig()):
        axes = [axis for axis in partition(weight.letters, hardware) if axis]
        parts = math.prod(hardware.mesh[axis] for axis in axes)
        assert math.prod(local_shape(weight, hardware)) * parts == math.prod(weight.shape)


@pytest.mark.parametrize(
    ("hardware", "model", "words"),
    [
        (slice_of(3, 1), ModelConfig(), r"mesh.expert=3 does not divide training.batch_size=8"),
        (slice_of(8, 8), ModelConfig(), r"mesh.model=8 does not divide model.num_heads=4; try 2"),
        (
            slice_of(8, 1),
            ModelConfig(num_experts=12),
            r"mesh.expert=8 does not divide model.num_experts=12; try 4 or 6",
        ),
    ],
)
def test_a_mesh_that_does_not_divide_is_one_line_with_one_that_does(hardware, model, words):
    config = RunConfig(hardware=hardware, model=model)
    with pytest.raises(UserError, match=words) as refused:
        check_divides(config)
    assert "\n" not in str(refused.value)


def test_layers_that_are_no_whole_number_of_turns_are_refused_with_a_number_that_is():
    scanned = dataclasses.replace(slice_of(2, 1), scan=True)
    config = RunConfig(hardware=scanned, model=ModelConfig(num_layers=5))
    with pytest.raises(UserError, match=r"does not divide model.num_layers=5; try 4, or hardware"):
        check_divides(config)
    check_divides(dataclasses.replace(config, model=ModelConfig(num_layers=6)))


@pytest.mark.parametrize("shape", [{"num_experts": 1}, {"moe_every": 0}])
def test_layers_without_experts_are_no_loop(shape):
    scanned = dataclasses.replace(slice_of(2, 1), scan=True)
    config = RunConfig(hardware=scanned, model=ModelConfig(**shape))
    with pytest.raises(UserError, match=r"needs layers of experts.*set hardware.scan=false"):
        check_divides(config)


def test_a_dense_model_has_no_experts_to_divide():
    config = RunConfig(hardware=slice_of(8, 4), model=ModelConfig(num_experts=1))
    check_divides(config)
    check_divides(dataclasses.replace(config, training=TrainingConfig(batch_size=64)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rules": {"expert": "model"}}, "no logical axis expert; did you mean experts"),
        ({"rules": {"experts": "modle"}}, "no axis modle; did you mean model"),
        (
            {"mesh": {"expert": 64, "model": 16, "modl": 2}},
            "anything along modl; did you mean model",
        ),
        ({"mesh": {"expert": 0, "model": 4}}, "hardware.mesh.expert=0 must be positive"),
        ({"num_devices": 7}, "hardware.num_devices=7 but hardware.mesh=.* is of 1024"),
        (
            {"topology": "v4:4x4x4"},
            "v4:4x4x4 is of 64 chips .* 1,024; try hardware.mesh.model=1,",
        ),
        (
            {"topology": "v9:8x8x16"},
            "v9:8x8x16 is not a kind of TPU .* for example v3:4x4, v4:4x4x4",
        ),
        ({"topology": "v4:0x8x16"}, "hardware.topology=v4:0x8x16 is not a kind of TPU"),
        ({"topology": "v4:1024"}, "hardware.topology=v4:1024 is not a kind of TPU"),
        ({"device": "gpu", "scan": True}, "hardware.scan=true is XLA's, and hardware=slice"),
        ({"topology": "v4"}, "hardware.topology=v4 is not a kind of TPU and the shape of a slice"),
        ({"peak_tflops": None}, "hardware.peak_tflops is not set"),
        ({"share_of_peak": 1.5}, "hardware.share_of_peak=1.5 must lie between 0 and 1"),
        ({"pue": 0.5}, "hardware.pue=0.5 must lie between 1 and 10"),
        ({"device": "tpus"}, "hardware.device='tpus' is not known; did you mean tpu"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(fields, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(slice_of(64, 16), **fields)
