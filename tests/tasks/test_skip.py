"""What a run that is done already says when its line is typed again."""

import shutil

import pytest

from glam.config import LoggerConfig, RunConfig
from glam.machine.resources import resolve
from glam.runs.folder import RunFolder
from glam.runs.identity import PACKAGE, code_fingerprint
from glam.tasks.train import train

CHANGED = "the code has changed since; rerun=true runs it again"


@pytest.fixture
def done(tmp_path):
    """A configuration whose run is done, by the code as it is and on some other machine."""
    config = RunConfig(runs_dir=str(tmp_path / "runs"), logger=LoggerConfig(name="csv"))
    run = RunFolder.of(config, resolve(config))
    run.path.mkdir(parents=True)
    run.write_config(config)
    run.report_file.touch()
    machine = {"processor": "another", "instruction_sets": [], "kernels": "others"}
    summary = {"status": "done", "code_fingerprint": code_fingerprint(), "machine": machine}
    run.write_json("summary.json", summary)
    return config


def warnings(caplog):
    return [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]


@pytest.mark.parametrize("file", ["kernels/kernels.c", "kernels/attention.inc", "model/glam.py"])
def test_a_skip_warns_of_a_changed_source_that_computes(done, tmp_path, monkeypatch, caplog, file):
    shutil.copytree(PACKAGE, tmp_path / "glam", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "glam" / file).open("a") as source:
        source.write("\n")
    monkeypatch.setattr("glam.runs.identity.PACKAGE", tmp_path / "glam")
    train(done, [])
    assert warnings(caplog) == [CHANGED]


def test_a_skip_says_nothing_of_the_same_code_elsewhere_nor_of_another_machine(
    done, tmp_path, monkeypatch, caplog
):
    shutil.copytree(PACKAGE, tmp_path / "glam", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("glam.runs.identity.PACKAGE", tmp_path / "glam")
    train(done, [])
    assert warnings(caplog) == []
