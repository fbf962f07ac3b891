"""A run that begins with trained weights is known by their content."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from glam.config import ModelConfig, RunConfig
from glam.errors import UserError
from glam.machine.resources import Resources
from glam.runs.exported import shape_of
from glam.runs.folder import RunFolder
from glam.runs.identity import could_be, run_id
from glam.runs.initial import find_initial, with_initial
from glam.runs.naming import run_name

HERE = Resources(threads=1, precision="bfloat16", device="cpu", memory_bytes=8 << 30, cores=2)
SPARSE = ModelConfig(
    vocab_size=300, num_layers=2, d_model=16, d_ff=8, num_heads=2, num_experts=4, top_k=2
)
DENSE = replace(SPARSE, num_experts=1)
VOCABULARY = "a\t0\n"


def exported(folder, model=SPARSE, value=0.0):
    """What looks like an exported folder: of its weights one is there."""
    from hashlib import sha256

    folder.mkdir(parents=True)
    (folder / "tokenizer.vocab").write_text(VOCABULARY)
    said = {"model_type": "glam_moe", "tokenizer_sha256": sha256(VOCABULARY.encode()).hexdigest()}
    (folder / "config.json").write_text(json.dumps(said | shape_of(model)))
    save_file({"norm.scale_M": torch.full((16,), value)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def source(tmp_path):
    return exported(tmp_path / "source")


@pytest.fixture
def finished(tmp_path, save_weights):
    """`finished(name, model, status)`: a run in `runs`."""

    def make(name, model=DENSE, status="done"):
        run = RunFolder(tmp_path / "runs" / name)
        run.path.mkdir(parents=True)
        run.write_config(RunConfig(model=model))
        (run.path / "tokenizer.vocab").write_text(VOCABULARY)
        save_weights(run.path, {"norm.scale_M": torch.zeros(16)}, 3)
        if status:
            run.write_json("summary.json", {"status": status})
        return run

    return make


def asked(named, tmp_path, model=SPARSE, **others):
    model = replace(model, init_from=str(named), **others)
    return RunConfig(model=model, runs_dir=str(tmp_path / "runs"))


def identity(*arguments, **others):
    return run_id(with_initial(asked(*arguments, **others)), HERE)


def test_the_id_is_that_of_the_content_however_the_path_is_spelled(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "elsewhere" / "copy")
    spelled = tmp_path / "elsewhere" / ".." / "source"
    found = {identity(named, tmp_path) for named in (source, copy, spelled)}
    assert len(found) == 1
    assert found != {run_id(RunConfig(model=SPARSE), HERE)}


def test_other_weights_and_another_tokenizer_are_another_run(source, tmp_path):
    before = identity(source, tmp_path)
    save_file({"norm.scale_M": torch.full((16,), 1.0)}, source / "model.safetensors")
    changed = identity(source, tmp_path)
    assert changed != before
    config = json.loads((source / "config.json").read_text())
    shutil.rmtree(source)
    exported(source)
    (source / "tokenizer.vocab").write_text("b\t0\n")
    from hashlib import sha256

    config["tokenizer_sha256"] = sha256(b"b\t0\n").hexdigest()
    (source / "config.json").write_text(json.dumps(config))
    assert identity(source, tmp_path) not in (before, changed)


def test_a_recorded_configuration_keeps_its_id_when_the_source_is_gone(source, tmp_path):
    config = with_initial(asked(source, tmp_path))
    before = run_id(config, HERE)
    shutil.rmtree(source)
    assert run_id(config, HERE) == before
    assert could_be(config, before)
    assert f"from_{config.model.init_digest}" in run_name(config)


def test_content_that_is_pinned_and_has_changed_is_refused(source, tmp_path):
    digest = find_initial(asked(source, tmp_path)).digest
    assert with_initial(asked(source, tmp_path, init_digest=digest)).model.init_digest == digest
    with pytest.raises(UserError, match="it has changed since"):
        with_initial(asked(source, tmp_path, init_digest="0123"))
    with pytest.raises(UserError, match="which is null; leave it out"):
        ModelConfig(init_digest="0123")


def test_a_run_is_found_by_its_name_and_known_by_its_weights(finished, tmp_path, save_weights):
    run = finished("dense-ab12")
    by_name, by_path = (find_initial(asked(n, tmp_path, DENSE)) for n in ("dense", run.path))
    assert by_name.digest == by_path.digest
    assert by_name.folder == run.path.resolve()
    save_weights(run.path, {"norm.scale_M": torch.ones(16)}, 4)
    assert find_initial(asked("dense", tmp_path, DENSE)).digest != by_name.digest


def test_a_run_that_is_not_done_is_refused(finished, tmp_path):
    finished("going-ab12", status=None)
    finished("bad-cd34", status="diverged")
    with pytest.raises(UserError, match=r"^model.init_from=going: .* has not finished"):
        find_initial(asked("going", tmp_path))
    with pytest.raises(UserError, match="diverged; name a run that is done"):
        find_initial(asked("bad", tmp_path))
    run = finished("empty-ef56")
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UserError, match="no checkpoint of empty-ef56 can be read"):
        find_initial(asked("empty", tmp_path))


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("latest", "another run tomorrow"),
        ("", "model.init_from is empty"),
        ("nowhere", "^model.init_from=nowhere is no run folder"),
        (".", "neither a run nor a folder that task=export wrote"),
    ],
)
def test_what_is_no_trained_model_is_refused(tmp_path, monkeypatch, named, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=reason):
        find_initial(asked(named, tmp_path))


def cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def another_tokenizer(folder):
    (folder / "tokenizer.vocab").write_text("b\t0\n")


def another_type(folder):
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "model_type": "gpt2"}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_short, "model.safetensors cannot be read .*export it again"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors cannot be"),
        (lambda folder: (folder / "tokenizer.vocab").unlink(), "its tokenizer cannot be read"),
        (another_tokenizer, "its tokenizer is not the one it was exported with"),
        (another_type, "a model of type 'gpt2', not of glam"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(source, tmp_path, damage, reason):
    damage(source)
    with pytest.raises(UserError, match=reason) as refused:
        find_initial(asked(source, tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ModelConfig(), "model.vocab_size=300 model.num_layers=2 model.d_model=16 model.d_ff=8"),
        (replace(SPARSE, d_head=3), "add model.d_head=null"),
        (replace(SPARSE, num_experts=8), "add model.num_experts=4"),
        (DENSE, "add model.num_experts=4"),
        (replace(SPARSE, moe_every=1), "add model.moe_every=2"),
    ],
)
def test_another_shape_is_refused_with_the_keys_that_fit(source, tmp_path, model, said):
    with pytest.raises(UserError, match=f"its weights have other sizes .*{said}"):
        with_initial(asked(source, tmp_path, model))


def test_what_does_not_change_a_shape_may_differ(source, tmp_path):
    model = replace(SPARSE, top_k=1, logit_cap=30.0, dispatcher="capacity")
    assert with_initial(asked(source, tmp_path, model)).model.init_digest


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"num_experts": 16}, None),
        ({"top_k": 4}, None),
        ({"num_experts": 5}, "no copies of its feed-forwards, 16 wide"),
        ({"top_k": 3}, "divide model.top_k=3"),
        ({"d_ff": 16}, "add model.d_ff=8"),
        ({"moe_every": 1}, "add model.moe_every=2"),
        ({"router": replace(SPARSE.router, normalize=False)}, "model.router.normalize=true"),
    ],
)
def test_a_dense_model_becomes_the_experts_that_it_is_wide_enough_for(tmp_path, changes, reason):
    source = exported(tmp_path / "dense", DENSE)
    config = asked(source, tmp_path, replace(SPARSE, **changes))
    if reason is None:
        assert with_initial(config).model.init_digest
    else:
        with pytest.raises(UserError, match=reason):
            with_initial(config)
