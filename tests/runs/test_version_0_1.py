"""A run folder written by version 0.1 (commit dc40a5c; glam_tiny with a vocabulary of 512, width 16
and 4 experts, 40 steps of Adafactor) is read by every later version."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glam.machine.resources import Resources
from glam.model import Glam
from glam.model.saved import saved_weights
from glam.reporting import run_report
from glam.runs.checkpoints import newest_checkpoint
from glam.runs.folder import RunFolder
from glam.runs.identity import run_id

NAME = "glam_tiny-4e-filtered-s0-28f8bb0256"
FOLDER = Path(__file__).with_name("version_0_1") / NAME
RESOURCES = Resources(threads=1, precision="float32", device="cpu", memory_bytes=10**9, cores=1)


@pytest.fixture
def run(tmp_path):
    """A copy, which may be written to."""
    return RunFolder(shutil.copytree(FOLDER, tmp_path / NAME))


def test_its_configuration_is_still_the_same_run(run):
    config = run.run_config()
    assert run_id(config, RESOURCES) == run.id == "28f8bb0256"
    assert (config.model.vocab_size, config.model.d_model, config.model.num_experts) == (512, 16, 4)
    assert config.optimizer.name == "adafactor"


def test_its_summary_says_that_it_is_done(run):
    summary = run.summary()
    assert summary is not None
    assert (summary["status"], summary["id"]) == ("done", run.id)
    assert summary["loss"]["mean"] == 6.006471061706543


def test_its_weights_are_read_by_the_names_they_were_saved_under(run):
    found = newest_checkpoint(run.checkpoints)
    assert found is not None
    saved = load_file(found.path / "model.safetensors")
    today = saved_weights(run.path)
    renamed = {name for name in saved if ".mixing" in name}
    assert len(renamed) == 9
    assert renamed.isdisjoint(today)
    assert len(today) == len(saved)
    pairs = zip(sorted(saved), sorted(today, key=name_in_0_1), strict=True)
    for before, name in pairs:
        assert before == name_in_0_1(name)
        assert torch.equal(saved[before], today[name])


def name_in_0_1(name: str) -> str:
    return name.replace(".ffn_norm", ".mixing_norm").replace(".ffn", ".mixing")


def test_its_model_computes_what_it_computed_then(run):
    model = Glam.from_run(run.path)
    tokens = torch.arange(256).view(4, 64) * 7 % 512
    with torch.no_grad():
        losses = model.loss(tokens, tokens.roll(-1, 1)).token_losses.mean(1)
    recorded = torch.tensor([6.501143, 6.489746, 6.641756, 6.541982])
    torch.testing.assert_close(losses, recorded, rtol=0, atol=1e-5)


def test_its_report_is_written_anew(run):
    page = run_report(run.path)
    assert NAME in page.read_text(encoding="utf-8")
    assert "6.006" in page.read_text(encoding="utf-8")
    assert json.loads(run.summary_file.read_text())["status"] == "done"
