"""A trained run in Python: `glam.load`."""

import math

import pytest
import torch
from safetensors.torch import load_file

import glam
from glam.config import DataConfig, LocalCorpusConfig, ModelConfig, RunConfig, TrainingConfig
from glam.data import Tokenizer
from glam.data.tokenizer import train_tokenizer
from glam.errors import UserError
from glam.evaluation import Sampling, generate
from glam.model import Glam
from glam.runs.folder import RunFolder

TEXT = "Thus 7 then 13, and the people of the north went home. " * 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory, save_weights):
    """A folder with a run that was not trained, but looks as if."""
    runs = tmp_path_factory.mktemp("runs")
    made = runs / "tokenizer"
    made.mkdir()
    train_tokenizer(made, [TEXT, "buy 3 then 9"] * 20, 288)
    shape = ModelConfig(
        vocab_size=288, num_layers=2, d_model=16, d_ff=16, num_heads=2, num_experts=4
    )
    run = RunFolder(runs / "tiny-4e-s0-ab12")
    run.path.mkdir()
    nowhere = LocalCorpusConfig(files=["nowhere.jsonl"])
    training = TrainingConfig(sequence_length=16, batch_size=3)
    run.write_config(
        RunConfig(model=shape, training=training, data=DataConfig(corpus=nowhere), cache_dir="no")
    )
    Tokenizer(made).copy_to(run.path)
    model = Glam(shape)
    model.initialize(1)
    save_weights(run.path, model.state_dict(), 1)
    run.write_json("summary.json", {"status": "done"})
    return runs


@pytest.fixture(scope="module")
def run(runs):
    return glam.load("latest", runs_dir=runs, device="cpu")


def test_a_run_is_loaded_by_its_folder_the_beginning_of_its_name_or_the_latest(runs, run):
    for named in (runs / "tiny-4e-s0-ab12", "ab1", "tiny"):
        assert glam.load(named, runs_dir=runs, device="cpu").path == run.path
    with pytest.raises(UserError, match="run=zz is no run folder"):
        glam.load("zz", runs_dir=runs)


def test_a_loaded_run_is_shown_by_its_folder_in_one_line(run):
    assert repr(run) == f"LoadedRun({str(run.path)!r})"


def test_a_loaded_run_needs_no_text(run):
    assert run.config.data.corpus.files == ["nowhere.jsonl"]
    assert run.tokenizer.decode(run.tokenizer.encode(TEXT)) == TEXT
    assert not run.model.training


def test_the_loss_of_a_text_is_that_of_its_rows(run):
    tokens = [run.tokenizer.bos, *run.tokenizer.encode(TEXT.strip())]
    targets = [*tokens[1:], run.tokenizer.eos]
    nats = 0.0
    for start in range(0, len(tokens), 16):
        row, after = torch.tensor([tokens[start : start + 16]]), targets[start : start + 16]
        with torch.no_grad():
            likelihoods = run.model(row).logits[0].float().log_softmax(-1)
        nats -= sum(float(likelihoods[place, target]) for place, target in enumerate(after))
    found = run.loss(TEXT)
    assert found.tokens == len(tokens)
    assert found.bytes == len(TEXT.strip().encode())
    assert found.nats_per_token == pytest.approx(nats / len(tokens), rel=1e-2)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / found.bytes, rel=1e-2)


def test_text_is_written_as_task_generate_writes_it(run):
    asked = {"max_tokens": 8, "temperature": 0.9, "top_p": 0.9, "seed": 3}
    search = Sampling(0.9, 0.9, 3)
    expected = generate(run.model, run.tokenizer, ["Thus"], search, context=16, max_tokens=8)
    assert [run.generate("Thus", **asked)] == expected
    assert len(run.generate("Thus", max_tokens=8, beams=3, length_penalty=0.6)) > 0
    assert run.generate("Thus", temperature=0) == run.generate("Thus", temperature=0, seed=7)


def test_values_out_of_range_are_refused_in_one_line(run):
    with pytest.raises(UserError, match="max_tokens=0 must be positive"):
        run.generate("Thus", max_tokens=0)
    with pytest.raises(UserError, match="the text is empty"):
        run.loss(" \n")


def test_a_loaded_run_is_exported_as_by_the_task(run, tmp_path):
    run.export(tmp_path / "exported")
    exported, weights = load_file(tmp_path / "exported" / "model.safetensors"), {}
    for name, value in run.model.state_dict().items():
        weights["embedding.weight" if name == "embedding.w_VM" else name] = value
    assert exported.keys() == weights.keys()
    assert all(torch.equal(exported[name], weights[name]) for name in weights)
    assert [file.name for file in tmp_path.iterdir()] == ["exported"]
    with pytest.raises(UserError, match="is there already"):
        run.export(tmp_path / "exported")
