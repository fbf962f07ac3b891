"""What is read of a run folder: its model's configuration and weights, whoever wrote them."""

import dataclasses
import json

import pytest
import torch
import yaml
from safetensors.torch import save_file

from glam.config import RunConfig
from glam.errors import UserError
from glam.model import Glam
from glam.model.saved import join_parts, name_today, read_weights, saved_config, saved_weights
from glam.runs.checkpoints import MANIFEST, WEIGHTS, checksum


def name_in_0_1(name: str) -> str:
    return name.replace(".ffn_norm.", ".mixing_norm.").replace(".ffn.", ".mixing.")


def write_run(path, config, state):
    """The files of a run folder that a model is read from."""
    folder = path / "checkpoints" / "step-00000003"
    folder.mkdir(parents=True)
    save_file({name: weight.contiguous() for name, weight in state.items()}, folder / WEIGHTS)
    manifest = {"step": 3, "files": {WEIGHTS: checksum(folder / WEIGHTS)}}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    whole = dataclasses.asdict(dataclasses.replace(RunConfig(), model=config))
    (path / "config.yaml").write_text(yaml.safe_dump(whole))


@pytest.fixture(params=[4, 1], ids=["sparse", "dense"])
def model(request, tiny):
    built = Glam(dataclasses.replace(tiny, num_experts=request.param))
    built.initialize(3)
    return built


def test_a_checkpoint_of_version_0_1_loads_by_the_names_of_today(model, tmp_path):
    state = model.state_dict()
    write_run(tmp_path, model.config, {name_in_0_1(name): w for name, w in state.items()})
    read = saved_weights(tmp_path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)
    loaded = Glam.from_run(tmp_path)
    assert not loaded.training
    tokens = torch.arange(14).view(2, 7)
    assert torch.equal(loaded(tokens).logits, model.eval()(tokens).logits)


def test_names_of_today_stay(model):
    for name in model.state_dict():
        assert name_today(name) == name
        assert name_today(name_in_0_1(name)) == name


def test_split_weights_are_joined_and_whole_ones_taken_once(tmp_path):
    weight, scale = torch.randn(4, 6), torch.randn(6)
    manifest = {"split": {"layers.0.mixing.w_in_MH": 1}, "files": {}}
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        half = weight[:, 3 * number - 3 : 3 * number].contiguous()
        save_file({"layers.0.mixing.w_in_MH": half, "norm.scale_M": scale}, tmp_path / name)
        manifest["files"][name] = {}
    read = read_weights(tmp_path, manifest)
    assert read.keys() == {"layers.0.ffn.w_in_MH", "norm.scale_M"}
    assert torch.equal(read["layers.0.ffn.w_in_MH"], weight)
    assert torch.equal(read["norm.scale_M"], scale)
    assert join_parts([{"a": scale}], {})["a"] is scale


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no config\.yaml"):
        saved_config(tmp_path)


def test_a_run_without_a_checkpoint_is_refused(model, tmp_path):
    write_run(tmp_path, model.config, model.state_dict())
    (tmp_path / "checkpoints" / "step-00000003" / MANIFEST).unlink()
    with pytest.raises(UserError, match="no checkpoint that can be read"):
        saved_weights(tmp_path)
