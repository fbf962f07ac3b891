"""A run is named by its folder, by `latest`, or by the unique beginning of its name or id."""

import os

import pytest

from glam.config import RunConfig
from glam.errors import UserError
from glam.runs.finding import find_run, find_study
from glam.runs.folder import RunFolder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three runs a minute apart, the newest without an end, and two studies."""
    monkeypatch.chdir(tmp_path)
    for place, (name, status) in enumerate(
        [("tiny-8e-s0-aa11", "done"), ("tiny-16e-s0-ab22", "done"), ("nano-8e-s0-cc33", None)]
    ):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        run.write_config(RunConfig())
        if status:
            run.write_json("summary.json", {"status": status})
        for file in run.path.iterdir():
            os.utime(file, (60 * place, 60 * place))
    (tmp_path / "tiny-8e-s0-aa11.old1").mkdir()
    (tmp_path / "tiny-8e-s0-aa11.old1" / "config.yaml").touch()
    for place, name in enumerate(["num_experts", "seed"]):
        (tmp_path / "studies" / name).mkdir(parents=True)
        (tmp_path / "studies" / name / "cells.json").write_text("{}")
        os.utime(tmp_path / "studies" / name / "cells.json", (60 * place, 60 * place))
    return tmp_path


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("tiny-16e-s0-ab22", "tiny-16e-s0-ab22"),
        ("ab", "tiny-16e-s0-ab22"),
        ("nano", "nano-8e-s0-cc33"),
        ("tiny-8e-s0-aa11", "tiny-8e-s0-aa11"),
        ("tiny-8", "tiny-8e-s0-aa11"),
        ("latest", "tiny-16e-s0-ab22"),
    ],
)
def test_a_run_is_found_by_what_is_unique(runs, named, found):
    assert find_run(named, runs).path.name == found


def test_the_newest_of_all_need_not_be_finished(runs):
    assert find_run("latest", runs, finished=False).path.name == "nano-8e-s0-cc33"


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("tiny", "run=tiny is the beginning of 2: tiny-16e-s0-ab22, tiny-8e-s0-aa11; type more"),
        ("a", "is the beginning of 2: tiny-16e-s0-ab22, tiny-8e-s0-aa11"),
        ("tiny-8e-s0-aa12", "did you mean tiny-8e-s0-aa11"),
        ("", "run= is empty"),
        ("x" * 300, "is no run folder"),
        ("studies/seed", "is the folder of a study; name one of its runs"),
    ],
)
def test_a_run_that_is_none_or_several_is_refused_with_the_candidates(runs, named, words):
    with pytest.raises(UserError) as refused:
        find_run(named, runs)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_a_finished_run_there_is_no_latest(tmp_path):
    with pytest.raises(UserError, match="there is no finished run in"):
        find_run("latest", tmp_path)


def test_a_study_is_found_likewise(runs):
    assert find_study("latest", runs).name == "seed"
    assert find_study("num", runs).name == "num_experts"
    assert find_study("studies/seed", runs).path == (runs / "studies" / "seed").resolve()
    with pytest.raises(UserError, match=r"study=sed is no study .* did you mean seed\?"):
        find_study("sed", runs)
    with pytest.raises(UserError, match="study= is empty"):
        find_study("", runs)
