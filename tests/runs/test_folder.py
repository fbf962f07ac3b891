"""A run's folder: found by id, held by one, done when its summary says so."""

import json
import multiprocessing
from dataclasses import replace

import pytest
import yaml

from glam.config import (
    AdafactorConfig,
    DataConfig,
    GenerateTaskConfig,
    LocalCorpusConfig,
    ModelConfig,
    PaperScheduleConfig,
    RunConfig,
)
from glam.errors import UserError
from glam.machine.resources import Resources
from glam.runs.finding import find_run
from glam.runs.folder import FILES, RunFolder, write_atomically

HERE = Resources(threads=1, precision="bfloat16", device="cpu", memory_bytes=8 << 30, cores=2)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "tiny-abc").mkdir()
    return RunFolder(tmp_path / "tiny-abc")


def _try_to_hold(path, answers):
    try:
        with RunFolder(path).lock():
            answers.put("held")
    except UserError as error:
        answers.put(str(error))


def test_a_run_is_held_by_one_process_at_a_time(run):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with run.lock():
        other = context.Process(target=_try_to_hold, args=(run.path, answers))
        other.start()
        assert "is being run by another process" in answers.get(timeout=600)
        other.join()
    _try_to_hold(run.path, answers)
    assert answers.get(timeout=600) == "held"


def test_a_run_is_done_when_its_summary_is_whole(run):
    assert run.summary() is None
    run.summary_file.write_text('{"status": "do')
    assert run.summary() is None
    run.write_json("summary.json", {"status": "done"})
    assert run.summary() == {"status": "done"}


def test_a_run_keeps_its_folder_when_only_its_name_would_change(tmp_path):
    config = replace(RunConfig(), runs_dir=str(tmp_path))
    first = RunFolder.of(config, HERE)
    first.path.mkdir()
    renamed = replace(config, model=ModelConfig(name="another"))
    assert RunFolder.of(renamed, HERE).path == first.path


@pytest.mark.parametrize("damaged", ["[1]", "{}", "3", ""])
def test_a_summary_that_says_no_status_counts_as_none(run, damaged):
    run.summary_file.write_text(damaged)
    assert run.summary() is None


@pytest.mark.parametrize(
    "damaged", [": : [", "", "model: {num_experts: lots}", "- model", "seed: 0"]
)
def test_a_damaged_configuration_is_refused_in_one_line(run, damaged):
    run = RunFolder(run.path.rename(run.path.with_name("tiny-0123456789")))
    run.config_file.write_text(damaged)
    with pytest.raises(UserError, match=r"config.yaml cannot be read .* rerun=true"):
        run.run_config()


def test_a_folder_that_is_not_named_as_a_run_is_told_no_command_of_its_own(tmp_path):
    (tmp_path / "config.yaml").write_text("defaults: [x]")
    with pytest.raises(UserError, match=r"config.yaml cannot be read .*name a run's folder") as no:
        find_run(str(tmp_path), tmp_path)
    assert "rerun=true" not in str(no.value)


def test_runs_lie_in_a_folder_and_not_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(UserError, match=r"runs_dir=.*: .*/file is no folder; name another"):
            RunFolder.of(RunConfig(runs_dir=str(place)), HERE)
    assert not RunFolder.of(RunConfig(runs_dir=str(tmp_path / "a" / "b")), HERE).has_begun


def test_a_held_run_is_seen_to_be_held(run):
    assert not run.is_held
    with run.lock():
        assert run.is_held
    assert not run.is_held


@pytest.mark.parametrize("what", ["folder", "link"])
def test_what_lies_in_the_place_of_a_lock_is_refused_and_held_by_nobody(run, what):
    lock = run.path / ".lock"
    lock.mkdir() if what == "folder" else lock.symlink_to(run.path / "precious")
    assert not run.is_held
    with pytest.raises(UserError, match=r"\.lock cannot be locked .* remove it"), run.lock():
        pass
    assert not (run.path / "precious").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(run, name):
    run.check_files()
    (run.path / name).mkdir()
    with pytest.raises(UserError, match=f"{name} is no regular file; remove it"):
        run.check_files()


def test_rerun_moves_the_old_run_aside_and_counts(run):
    assert run.move_aside().name == "tiny-abc.old1"
    run.path.mkdir()
    assert run.move_aside().name == "tiny-abc.old2"
    assert run.move_aside() is None


def test_a_folder_that_is_no_run_contains_none(tmp_path, monkeypatch):
    assert RunFolder.containing(str(tmp_path)) is None
    (tmp_path / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert RunFolder.containing("") is None
    assert RunFolder.containing("a/b") is None


def test_a_checkpoint_inside_a_run_names_the_run(run):
    run.write_config(RunConfig())
    step = run.checkpoints / "step-00000001"
    step.mkdir(parents=True)
    found = RunFolder.containing(str(step))
    assert found is not None
    assert found.path == run.path.resolve()


def test_the_configuration_on_disk_is_a_plain_mapping(run):
    run.write_config(RunConfig())
    content = yaml.safe_load(run.config_file.read_text())
    assert content["model"]["router"]["normalize"] is True


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        RunConfig(optimizer=AdafactorConfig(beta2=0.5), schedule=PaperScheduleConfig()),
        RunConfig(data=DataConfig(corpus=LocalCorpusConfig(files=["a.txt"])), seed=3),
        RunConfig(task=GenerateTaskConfig(prompt="x"), run="y"),
    ],
)
def test_the_configuration_comes_back_as_it_was(run, config):
    run.write_config(config)
    assert run.run_config() == config


def test_an_atomic_write_leaves_no_parts(tmp_path):
    write_atomically(tmp_path / "a.json", json.dumps(1))
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]
