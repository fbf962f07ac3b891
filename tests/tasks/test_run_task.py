"""What is said before a task begins, and by whom."""

import sys

from glam.config import ListTaskConfig, RunConfig
from glam.tasks import run_task as running


def test_variables_of_torchrun_that_are_left_over_silence_nothing(monkeypatch, tmp_path, capsys):
    names = {"TORCHELASTIC_RUN_ID": "1", "RANK": "3", "WORLD_SIZE": "4"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(running, "watch_parent", lambda: None)
    for stream in ("stdout", "stderr"):  # as they are again after the test
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    running.run_task(RunConfig(task=ListTaskConfig(), runs_dir=str(tmp_path)), [])
    assert "no runs in" in "".join(capsys.readouterr())
