import errno
import json
import os
import pickle
import resource
import shutil
import stat
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import load_file, save_file

from glam.config import AdafactorConfig, AdamWConfig, TrainingConfig
from glam.engines import sharded_checkpoint
from glam.engines.sharded_checkpoint import ShardedCheckpointIO
from glam.errors import UserError
from glam.machine.energy_by_phase import EnergyByPhase
from glam.machine.processes import Processes
from glam.runs import checkpoints
from glam.runs.checkpoints import (
    checksum,
    newest_checkpoint,
    step_folder,
    step_folders,
    step_of,
    verify,
)
from glam.runs.manifest import DamagedCheckpointError, digest
from glam.training.checkpoint import FolderCheckpointIO, prune
from glam.training.metrics import Metrics
from glam.training.module import TrainingModule
from glam.training.saving import Checkpoints
from glam.training.train_state import RunningMeans, TrainState


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


UNREADABLE = [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE]


@pytest.fixture
def unreadable(monkeypatch):
    """Makes files with a name unreadable; as root, a mode would not."""

    def make(name, error):
        def opened(file, *arguments, **others):
            if Path(file).name == name:
                raise OSError(error, os.strerror(error), str(file))
            return os_open(file, *arguments, **others)

        monkeypatch.setattr(os, "open", opened)

    os_open = os.open
    return make


@pytest.mark.parametrize("error", UNREADABLE, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path, unreadable, name, error):
    save(tmp_path, 3)
    path = save(tmp_path, 5)
    unreadable(name, error)
    with pytest.raises(UserError, match=f"{path.name} cannot be read") as refused:
        newest_checkpoint(tmp_path)
    assert "\n" not in str(refused.value)
    assert os.strerror(error) in str(refused.value)


def test_a_run_whose_checkpoint_cannot_be_read_loses_nothing(tmp_path, unreadable):
    config = toy.config(3, every_step=True)
    toy.train(config, toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    before = sorted(tmp_path.glob("checkpoints/**/*"))
    unreadable("optimizer.safetensors", errno.EACCES)
    with pytest.raises(UserError, match="nothing was removed"):
        toy.train(config, toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    assert sorted(tmp_path.glob("checkpoints/**/*")) == before


def test_a_folder_of_checkpoints_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    def listed(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "listdir", listed)
    with pytest.raises(UserError, match="cannot be read"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], ids=oct)
def test_the_mode_of_every_file_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        path = save(tmp_path)
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()}
    assert modes == dict.fromkeys(FILES, 0o666 & ~umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask


def replace_by_a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def replace_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replace_by_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [replace_by_a_link, replace_by_a_pipe, replace_by_a_folder])
def test_what_is_no_plain_file_is_damage(tmp_path, name, harm):
    path = save(tmp_path)
    harm(path / name)
    with pytest.raises(DamagedCheckpointError, match=name):
        verify(path)


def say(path, **changes):
    """Let a manifest say something else, under a digest of its own."""
    file = path / "manifest.json"
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps(content | {"digest": digest(content)}))


@pytest.mark.parametrize("changes", [{"step": 4}, {"tokens": 97}, {"status": "done"}], ids=str)
def test_a_manifest_agrees_with_its_folder_and_its_state(tmp_path, changes):
    path = save(tmp_path)
    say(path, **changes)
    with pytest.raises(DamagedCheckpointError, match="its manifest says"):
        verify(path)


def test_a_folder_under_another_steps_name_is_damage(tmp_path):
    path = save(tmp_path, 3).rename(step_folder(tmp_path, 9))
    with pytest.raises(DamagedCheckpointError, match="its manifest says step 3"):
        verify(path)


def test_a_checkpoint_of_a_later_version_is_refused_and_not_passed_over(tmp_path):
    save(tmp_path, 3)
    say(save(tmp_path, 5), format=99)
    with pytest.raises(UserError, match="a later version of glam"):
        newest_checkpoint(tmp_path)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("pickled",)


@pytest.mark.parametrize("content", [b"", b"no zip", pickle.dumps(Payload()), "a list"], ids=repr)
def test_a_bad_state_under_a_matching_checksum_is_damage_in_our_words(
    tmp_path, monkeypatch, content
):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path)
    if isinstance(content, bytes):
        (path / "state.pt").write_bytes(content)
    else:
        torch.save([content], path / "state.pt")
    files = json.loads((path / "manifest.json").read_text())["files"]
    say(path, files=files | {"state.pt": asdict(checksum(path / "state.pt"))})
    with pytest.raises(DamagedCheckpointError) as damage:
        verify(path)
    assert str(damage.value).startswith("state.pt holds no ")
    assert not Path("pickled").exists()


def test_bad_weights_under_a_matching_checksum_are_refused_in_a_line(tmp_path):
    config = toy.config(2)
    toy.train(config, toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    path = step_folder(tmp_path / "checkpoints", 2)
    weights = load_file(path / "model.safetensors")
    save_file(weights | {"norm.scale_M": torch.ones(1)}, path / "model.safetensors")
    files = json.loads((path / "manifest.json").read_text())["files"]
    say(path, files=files | {"model.safetensors": asdict(checksum(path / "model.safetensors"))})
    with pytest.raises(UserError, match=r"norm\.scale_M \[1\], not \[16\]"):
        toy.train(config, toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)


class TwoProcesses(Processes):
    """The process `rank` of two, of which the other found `other`."""

    size = 2

    def __init__(self, rank, other=(0, 0)):
        self.rank, self.other = rank, other

    def largest(self, *values):
        return tuple(max(pair) for pair in zip(values, self.other, strict=True))


def test_each_file_is_read_by_one_process_and_believed_by_none_that_another_finds_damaged(
    tmp_path, monkeypatch
):
    path, read = save(tmp_path), []
    monkeypatch.setattr(
        checkpoints, "checksum", lambda file: (read.append(file.name), checksum(file))[1]
    )
    for rank in range(2):
        verify(path, TwoProcesses(rank))
    assert sorted(read) == sorted(set(FILES) - {"manifest.json"})
    with pytest.raises(DamagedCheckpointError, match="not what was saved"):
        verify(path, TwoProcesses(0, other=(0, 1)))
    with pytest.raises(UserError, match="Input/output error"):
        verify(path, TwoProcesses(0, other=(errno.EIO, 0)))


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


def test_nothing_is_removed_before_its_successor_is_loaded(tmp_path, monkeypatch):
    config = toy.config(5, every_step=True)
    toy.train(config, toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    flip(step_folder(tmp_path / "checkpoints", 5) / "state.pt")
    (tmp_path / "checkpoints" / ".step-00000006.part").mkdir()

    def failing(*arguments, **others):
        raise UserError("cannot be loaded")

    with monkeypatch.context() as patch:
        patch.setattr(FolderCheckpointIO, "load_checkpoint", failing)
        with pytest.raises(UserError, match="cannot be loaded"):
            toy.train(config, toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    steps = [step_of(folder) for folder in step_folders(tmp_path / "checkpoints")]
    assert steps == [5, 4]
    toy.train(config, toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    assert [path.name[-8:] for path in (tmp_path / "checkpoints").glob(".*")] == []
    verify(step_folder(tmp_path / "checkpoints", 5))


def halves(tensors):
    """What each of two processes has: the half of what can be halved, and the first the rest."""
    splits = {name: 0 for name, value in tensors.items() if value.ndim and value.shape[0] % 2 == 0}
    mine = (
        {n: v.chunk(2)[rank].clone() for n, v in tensors.items() if n in splits} for rank in (0, 1)
    )
    first, second = mine
    return splits, [first | {n: v for n, v in tensors.items() if n not in splits}, second]


def as_in_0_2(path, processes):
    """Let a checkpoint be as glam 0.2 wrote it."""
    weights, tensors = (load_file(path / f"{name}.safetensors") for name in ("model", "optimizer"))
    state = torch.load(path / "state.pt", weights_only=True)
    manifest = json.loads((path / "manifest.json").read_text())
    [optimizer] = state["optimizer_states"]
    numbers = {f"{i}/{key}": v for i, of in optimizer["state"].items() for key, v in of.items()}
    shutil.rmtree(path)
    path.mkdir()
    files = {}
    for key in ("format", "digest", "split", "split_state"):
        del manifest[key]
    if processes == 1:
        nested = {}
        for key, value in (tensors | numbers).items():
            index, name = key.split("/")
            nested.setdefault(int(index), {})[name] = value
        save_file(weights, path / "model.safetensors")
        torch.save(
            {**state, "optimizer_states": [optimizer | {"state": nested}]}, path / "state.pt"
        )
    else:
        flat = tensors | {key: torch.as_tensor(value) for key, value in numbers.items()}
        (manifest["split"], ours), (manifest["split_state"], theirs) = halves(weights), halves(flat)
        for rank, (part, values) in enumerate(zip(ours, theirs, strict=True)):
            number = f"{rank + 1:05d}-of-00002"
            save_file(part, path / f"model-{number}.safetensors")
            made = {**state, "optimizer_states": [optimizer | {"state": values}]}
            torch.save(made, path / f"state-{number}.pt")
    for file in sorted(path.iterdir()):
        files[file.name] = asdict(checksum(file))
    (path / "manifest.json").write_text(json.dumps({**manifest, "files": files}))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("optimizer", [AdafactorConfig(), AdamWConfig()], ids=lambda o: o.name)
def test_a_run_goes_on_from_a_checkpoint_of_version_0_2(tmp_path, optimizer, processes):
    config = toy.config(4, every_step=True, optimizer=optimizer)
    toy.train(config, toy.prepared(), toy.folder(tmp_path / "a"), toy.RESOURCES)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(step_folder(tmp_path / "b" / "checkpoints", 4))
    as_in_0_2(step_folder(tmp_path / "b" / "checkpoints", 3), processes)
    toy.train(config, toy.prepared(), toy.folder(tmp_path / "b"), toy.RESOURCES)
    assert same_weights(tmp_path / "a", tmp_path / "b", step=4)


def test_milestones_and_the_newest_are_kept(tmp_path):
    made = toy.config(8)
    keep = replace(made.training, keep_checkpoints=1, milestone_steps=3)
    toy.train(replace(made, training=keep), toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    found = step_folders(tmp_path / "checkpoints")
    assert [step_of(folder) for folder in found] == [8, 6, 3]


@pytest.mark.parametrize("changes", [{"keep_checkpoints": 0}, {"milestone_steps": 0}], ids=str)
def test_retention_of_nothing_is_refused(changes):
    with pytest.raises(UserError, match="training"):
        TrainingConfig(**changes)


def test_a_checkpoint_in_the_background_is_awaited_and_its_failure_told(
    tmp_path, monkeypatch, capsys
):
    background = ShardedCheckpointIO({"code": "c", "data": "d"}, Processes())
    background.save_checkpoint(checkpoint(), step_folder(tmp_path, 3))
    background.finish()
    verify(step_folder(tmp_path, 3))

    def failing(state, file):
        raise RuntimeError("no zip writer")

    monkeypatch.setattr(sharded_checkpoint, "save_state", failing)
    background.save_checkpoint(checkpoint(5), step_folder(tmp_path, 5))
    background.finish()
    assert "step-00000005 could not be saved, the last one stays: no zip" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


class Watched(Processes):
    """The process `rank` of two, which notes when it waits for the other."""

    size = 2

    def __init__(self, rank, events, other=0):
        self.rank, self.events, self.other = rank, events, other

    def largest(self, *values):
        self.events.append("meet")
        return tuple(max(value, self.other) for value in values)


@pytest.fixture
def saving_at(tmp_path):
    """`Checkpoints` of one of two processes, at a step to go back to."""

    def made(processes, metrics=None, finish=lambda: None):
        training = TrainingConfig(tokens=10**6, rollback_every=5)
        means = RunningMeans(num_sources=1, load_shape=(1, 1), device="cpu")
        state = TrainState(means, training, EnergyByPhase())
        state.step = state.watch.step = 5
        run = toy.folder(tmp_path)
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        return Checkpoints(run, training, state, metrics or Metrics(), finish, processes)

    return made


def test_no_process_goes_on_before_the_main_one_has_completed_the_checkpoint(saving_at):
    events = []
    saving = saving_at(Watched(0, events), finish=lambda: events.append("complete"))
    saving._tried_step = 5
    saving.on_train_end(None, None)
    assert events == ["complete", "meet"]


@pytest.mark.parametrize("rank", [0, 1])
def test_rows_that_one_process_cannot_flush_keep_all_from_the_checkpoint(saving_at, rank, caplog):
    """Else the others would wait in it, and would go back to what is not there."""

    class Full(Metrics):
        def sync(self):
            if rank == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Module(TrainingModule):
        def __init__(self):
            pass

    class Trainer:
        lightning_module, saved = Module(), False

        def save_checkpoint(self, folder):
            self.saved = True

    trainer, events = Trainer(), []
    saving = saving_at(Watched(rank, events, other=errno.ENOSPC), Full())
    saving._save(trainer)
    assert not trainer.saved
    assert set(saving.train_state.watch.anchors) == {0}
    assert len(caplog.records) == (rank == 0)


def test_a_run_that_fails_waits_for_its_checkpoint(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(FolderCheckpointIO, "finish", lambda self: waited.append(True))

    def failing(*arguments):
        raise RuntimeError("in mid-run")

    monkeypatch.setattr(TrainingModule, "training_step", failing)
    with pytest.raises(RuntimeError, match="in mid-run"):
        toy.train(toy.config(3), toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    assert waited


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
