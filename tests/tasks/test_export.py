"""`task=export`, and a run that begins with what it wrote."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from glam.config import DataConfig, ExportConfig, ExportTaskConfig, ModelConfig, RunConfig
from glam.data import Tokenizer
from glam.data.tokenizer import train_tokenizer
from glam.errors import UserError
from glam.model import Glam
from glam.runs.folder import RunFolder
from glam.tasks.export import export
from glam.tasks.prepare import initial_tokenizer, prepared_text
from glam.tasks.train import own_tokenizer

TEXT = "Thus 7 then 13, and the people of the north went home. " * 3
SHAPE = ModelConfig(vocab_size=288, num_layers=2, d_model=16, d_ff=8, num_heads=2, num_experts=4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, save_weights):
    runs = tmp_path_factory.mktemp("runs")
    made = runs / "tokenizer"
    made.mkdir()
    train_tokenizer(made, [TEXT, "buy 3 then 9"] * 20, 288)
    run = RunFolder(runs / "tiny-4e-s0-ab12")
    run.path.mkdir()
    run.write_config(RunConfig(model=SHAPE, cache_dir="no"))
    Tokenizer(made).copy_to(run.path)
    model = Glam(SHAPE)
    save_weights(run.path, model.state_dict(), 1)
    run.write_json("summary.json", {"status": "done", "loss": {"mean": 4.5}})
    return runs


def asked(runs, path):
    return RunConfig(
        task=ExportTaskConfig(),
        run="tiny",
        runs_dir=str(runs),
        export=ExportConfig(path=str(path)),
    )


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("there") / "new" / "exported"
    export(asked(runs, folder), [])
    return folder


def test_the_folder_is_told_and_its_card_is_of_the_run(runs, tmp_path, capsys):
    export(asked(runs, tmp_path / "one"), [])
    assert capsys.readouterr().out == f"{tmp_path / 'one'}\n"
    card = (tmp_path / "one" / "README.md").read_text()
    assert "# tiny-4e-s0-ab12" in card
    assert "| mean | 4.500 |" in card


def test_scaled_experts_are_exported_as_weights_and_the_card_says_so(runs, exported, tmp_path):
    config = asked(runs, tmp_path / "scaled")
    export(replace(config, task=ExportTaskConfig(expert_scale=["1/2:0", "1/0:0.5"])), [])
    whole, scaled = (
        load_file(folder / "model.safetensors") for folder in (exported, tmp_path / "scaled")
    )
    [name] = [name for name in whole if "layers.1." in name and "w_out_EHM" in name]
    factors = torch.tensor([0.5, 1, 0, 1])[:, None, None]
    assert torch.equal(scaled.pop(name), whole.pop(name) * factors)
    assert all(torch.equal(scaled[other], weight) for other, weight in whole.items())
    card = (tmp_path / "scaled" / "README.md").read_text()
    assert "(layer/expert:factor): 1/2:0, 1/0:0.5." in card
    assert "factor" not in (exported / "README.md").read_text()


def test_a_folder_that_is_there_is_refused_before_the_weights_are_read(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(Glam, "from_run", lambda *_: pytest.fail("it was read"))
    with pytest.raises(UserError, match="is there already; name a new folder"):
        export(asked(runs, tmp_path), [])


def test_a_path_is_asked_for_and_belongs_to_this_task():
    with pytest.raises(UserError, match=r"needs export\.path=<a new folder>"):
        RunConfig(task=ExportTaskConfig(), run="latest")
    with pytest.raises(UserError, match=r"export\.path=x is for task=export"):
        RunConfig(export=ExportConfig(path="x"))


def test_a_run_that_begins_with_it_takes_its_tokenizer(runs, exported):
    model = replace(SHAPE, init_from=str(exported))
    found = initial_tokenizer(RunConfig(model=model))
    assert found.fingerprint == Tokenizer(runs / "tokenizer").fingerprint


def test_a_run_that_begins_with_it_is_given_no_other_tokenizer(exported):
    model = replace(SHAPE, init_from=str(exported))
    config = RunConfig(model=model, data=DataConfig(tokenizer="another.model"))
    with pytest.raises(
        UserError, match=r"^data.tokenizer=another.model: .*leave data.tokenizer out"
    ):
        prepared_text(config)


def test_a_run_that_goes_on_has_the_tokenizer_that_it_was_given(runs, tmp_path, save_weights):
    """The file that was given may be gone."""
    run = RunFolder(tmp_path / "given-ef56")
    run.path.mkdir()
    Tokenizer(runs / "tokenizer").copy_to(run.path)
    given = RunConfig(data=DataConfig(tokenizer="gone.model"))
    assert own_tokenizer(given, run) is None  # it has not begun
    save_weights(run.path, {"norm.scale_M": torch.ones(16)}, 1)
    found = own_tokenizer(given, run)
    assert found is not None
    assert found.fingerprint == Tokenizer(runs / "tokenizer").fingerprint
    assert own_tokenizer(replace(given, rerun=True), run) is None
    assert own_tokenizer(RunConfig(), run) is None  # its text tells


def test_a_tokenizer_of_another_size_is_refused(runs, tmp_path, save_weights):
    run = RunFolder(tmp_path / "wide-cd34")
    run.path.mkdir()
    wide = replace(SHAPE, vocab_size=300)
    run.write_config(RunConfig(model=wide))
    Tokenizer(runs / "tokenizer").copy_to(run.path)
    save_weights(run.path, {"norm.scale_M": torch.ones(16)}, 1)
    run.write_json("summary.json", {"status": "done"})
    config = RunConfig(model=replace(wide, init_from=str(run.path)))
    with pytest.raises(UserError, match="tokenizer has 288 pieces and its model 300"):
        initial_tokenizer(config)
