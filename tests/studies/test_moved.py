"""A study whose folder was copied to another machine goes on there."""

import os
import shutil
import subprocess

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("grid")]
THERE = {**os.environ, "ANOTHER_MACHINE": "1"}
QUICK = "hydra/launcher=basic"


def test_a_moved_study_keeps_its_runs_and_finishes_the_others_as_it_began(line, table, tmp_path):
    here, there, whole = tmp_path / "here", tmp_path / "there", tmp_path / "whole"
    begun = subprocess.run([*line(here, "seed=0,1,17"), QUICK], capture_output=True, text=True)
    assert "seed=17 (RuntimeError: the power is cut)" in begun.stderr
    shutil.copytree(here, there)
    command = [*line(there, "seed=0,1,2,17"), QUICK]
    moved = subprocess.run(command, env=THERE, capture_output=True, text=True)
    assert moved.returncode == 0, moved.stderr
    assert "seed: continues with hardware.precision=float32, as it was started" in moved.stderr
    assert "2 of 4 cells are done already" in moved.stderr
    assert (
        "warning: These runs were computed on unlike processors or kernels, which round "
        "differently: 2 on Xeon (elementwise kernels); 2 on EPYC (elementwise kernels)."
    ) in moved.stderr
    assert "unlike" not in begun.stderr
    for run in here.glob("*-s[01]-*/summary.json"):
        assert (there / run.relative_to(here)).read_text() == run.read_text()
    [resumed] = there.glob("*-s17-*")
    assert (resumed / "starts").read_text().split() == ["started", "started"]
    typed = [*line(whole, "seed=0,1,2,17"), QUICK, "hardware.precision=float32"]
    assert subprocess.run(typed, env=THERE, capture_output=True).returncode == 0
    assert table(there) == table(whole)


def test_what_is_typed_wins_over_how_the_study_began(line, table, tmp_path):
    runs = tmp_path / "runs"
    for words in ([], ["hardware.precision=bfloat16"]):
        command = [*line(runs, "seed=0"), QUICK, "study.name=mine", *words]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert "continues with" not in ended.stderr
    assert len({row["id"] for row in table(runs)}) == 2
