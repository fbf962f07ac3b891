"""What is read of a run folder: its model's configuration and weights, whoever wrote them."""

import dataclasses
import json

import pytest
import torch
import yaml

from glam.config import RunConfig
from glam.errors import UserError
from glam.model import Glam
from glam.model.saved import name_today, saved_config, saved_weights
from glam.runs.manifest import MANIFEST


def name_in_0_1(name: str) -> str:
    return name.replace(".ffn_norm.", ".mixing_norm.").replace(".ffn.", ".mixing.")


@pytest.fixture
def write_run(save_weights):
    """Writes the files of a run folder that a model is read from."""

    def write(path, config, state):
        save_weights(path, state, 3)
        whole = dataclasses.asdict(dataclasses.replace(RunConfig(), model=config))
        (path / "config.yaml").write_text(yaml.safe_dump(whole))

    return write


@pytest.fixture(params=[4, 1], ids=["sparse", "dense"])
def model(request, tiny):
    built = Glam(dataclasses.replace(tiny, num_experts=request.param))
    built.initialize(3)
    return built


def test_a_checkpoint_of_version_0_1_loads_by_the_names_of_today(model, tmp_path, write_run):
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


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no config\.yaml"):
        saved_config(tmp_path)


def test_a_run_without_a_checkpoint_is_refused_with_the_way_to_one(model, tmp_path, write_run):
    write_run(tmp_path, model.config, model.state_dict())
    (tmp_path / "checkpoints" / "step-00000003" / MANIFEST).unlink()
    with pytest.raises(UserError, match=r"no checkpoint that can be read; finish the run first"):
        saved_weights(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"status": "done"}))
    with pytest.raises(UserError, match=r"its own command with rerun=true trains it again"):
        saved_weights(tmp_path)
