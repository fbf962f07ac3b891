import json
import resource
import shutil

import pytest
import torch
import toy
from safetensors.torch import load_file

from glam.runs.checkpoints import DamagedCheckpointError, newest_checkpoint, step_folder, verify
from glam.training.checkpoint import FolderCheckpointIO, prune


def checkpoint(step=3, size=8):
    return {
        "pytorch-lightning_version": "2.6.6",
        "epoch": 0,
        "global_step": step,
        "state_dict": {"model.w": torch.full((size,), float(step))},
        "optimizer_states": [
            {"state": {0: {"step": step, "rows": torch.ones(size)}}, "param_groups": []}
        ],
        "training": {"step": step, "tokens": 32 * step, "status": "training"},
        "loops": {"fit_loop": object()},  # not ours to keep
    }


def save(folder, step=3, size=8):
    path = step_folder(folder, step)
    FolderCheckpointIO({"code": "c", "data": "d"}).save_checkpoint(checkpoint(step, size), path)
    return path


def test_what_is_saved_comes_back(tmp_path):
    path = save(tmp_path)
    found = FolderCheckpointIO({}).load_checkpoint(path)
    assert torch.equal(found["state_dict"]["model.w"], torch.full((8,), 3.0))
    assert found["training"] == checkpoint()["training"]
    [(number, state)] = found["optimizer_states"][0]["state"].items()
    assert (number, state["step"], state["rows"].tolist()) == (0, 3, [1.0] * 8)
    assert "loops" not in found


def test_a_checkpoint_is_plain_weights_plain_state_and_a_manifest(tmp_path):
    path = save(tmp_path)
    assert list(load_file(path / "model.safetensors")) == ["w"]
    assert list(load_file(path / "optimizer.safetensors")) == ["0/rows"]
    torch.load(path / "state.pt", weights_only=True)
    manifest = json.loads((path / "manifest.json").read_text())
    assert {name: manifest[name] for name in ("step", "tokens", "status", "code", "data")} == {
        "step": 3,
        "tokens": 96,
        "status": "training",
        "code": "c",
        "data": "d",
    }
    assert sorted(manifest["files"]) == ["model.safetensors", "optimizer.safetensors", "state.pt"]
    assert verify(path).to_json() == (path / "manifest.json").read_text()


def test_the_checkpoint_of_a_run_loads_as_tensors_and_plain_values(tmp_path):
    toy.train(toy.config(3), toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    path = tmp_path / "checkpoints" / "step-00000003"
    state = torch.load(path / "state.pt", weights_only=True)
    assert state["training"]["step"] == 3
    assert all(v.dtype == torch.float32 for v in load_file(path / "model.safetensors").values())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shorten(path):
    path.write_bytes(path.read_bytes()[:-20])


def remove(path):
    path.unlink()


FILES = ["model.safetensors", "optimizer.safetensors", "state.pt", "manifest.json"]


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *((name, harm) for name in FILES for harm in (flip, shorten, remove)),
    ],
)
def test_a_damaged_checkpoint_is_told_in_a_line_and_the_one_before_used(
    tmp_path, capsys, name, harm
):
    before = save(tmp_path, 3)
    harm(save(tmp_path, 5) / name)
    assert newest_checkpoint(tmp_path).path == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: checkpoint step-00000005 is damaged (")


def test_each_damaged_checkpoint_is_reported_in_one_line(tmp_path, capsys):
    for step in (3, 5):
        flip(save(tmp_path, step) / "state.pt")
    assert newest_checkpoint(tmp_path) is None
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "warning: checkpoint step-00000005 is damaged",
        "warning: checkpoint step-00000003 is damaged",
    ]


def test_a_manifest_of_something_else_is_damage(tmp_path):
    path = save(tmp_path)
    (path / "manifest.json").write_text("[]")
    with pytest.raises(DamagedCheckpointError):
        verify(path)


def test_a_half_written_folder_is_no_checkpoint(tmp_path):
    (tmp_path / ".step-00000009.part").mkdir()
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize(
    ("keep_last", "protected", "kept"),
    [(2, (), [10, 11]), (1, (), [11]), (2, {1}, [1, 10, 11]), (1, [2, 11, 500], [2, 11])],
)
def test_the_newest_and_the_protected_are_kept(tmp_path, keep_last, protected, kept):
    for step in (1, 2, 10, 11):
        save(tmp_path, step)
    prune(tmp_path, keep_last=keep_last, protected=protected)
    assert sorted(tmp_path.iterdir()) == [step_folder(tmp_path, step) for step in kept]


def test_a_checkpoint_replaces_a_damaged_one_of_its_step(tmp_path):
    flip(save(tmp_path) / "state.pt")
    verify(save(tmp_path))


def same_weights(one, other, step=12):
    mine, theirs = (
        load_file(step_folder(path / "checkpoints", step) / "model.safetensors")
        for path in (one, other)
    )
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("damaged", [["00000012"], ["00000011", "00000012"]])
def test_a_run_goes_on_from_an_older_checkpoint_or_anew_to_the_same_end(tmp_path, damaged, capsys):
    config = toy.config(12, every_step=True)
    toy.train(config, toy.prepared(), toy.folder(tmp_path / "a"), toy.RESOURCES)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for step in damaged:
        flip(tmp_path / "b" / "checkpoints" / f"step-{step}" / "model.safetensors")
    result = toy.train(config, toy.prepared(), toy.folder(tmp_path / "b"), toy.RESOURCES)
    assert result.status == "done"
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert ("starts over" in capsys.readouterr().err) == (len(damaged) == 2)


@pytest.fixture
def small_disk():
    """No file may grow beyond the limit: what a full disk does, within one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("limit", "size"), [(2_000, 2_000), (800, 8)], ids=["weights", "state"])
def test_a_full_disk_leaves_the_checkpoint_before_whole_and_nothing_half(
    tmp_path, small_disk, limit, size
):
    before = save(tmp_path, 1)
    small_disk(limit)
    with pytest.raises(Exception, match=r"(?i)file too large|no space left"):
        save(tmp_path, 2, size)
    small_disk(resource.RLIM_INFINITY)
    assert [p.name for p in tmp_path.iterdir()] == [before.name]
    verify(before)


def test_a_run_that_cannot_save_says_so_in_a_line_and_trains_on(tmp_path, small_disk, capsys):
    small_disk(20_000)
    result = toy.train(toy.config(6), toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    assert result.status == "done"
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if "could not be saved" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: step-00000006 could not be saved, the last one stays: ")
    assert list((tmp_path / "checkpoints").iterdir()) == []
