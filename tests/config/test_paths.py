"""`~` is home in every key that names a path, and never a folder of that name."""

import pytest

import glam
from glam.composition.normalize import normalized
from glam.config import ROOT, LocalCorpusConfig, RunConfig, typed_path
from glam.data.local import local_sources
from glam.errors import UserError
from glam.runs.finding import find_run, find_study
from glam.runs.folder import RunFolder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "runs" / "tiny-ab12").mkdir(parents=True)
    RunFolder(tmp_path / "runs" / "tiny-ab12").write_config(RunConfig())
    (tmp_path / "runs" / "studies" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "studies" / "one" / "cells.json").write_text("{}")
    (tmp_path / "a.txt").write_text("text")
    return tmp_path


def test_home_is_read_in_every_key_of_a_path(home):
    config = RunConfig(runs_dir="~/runs", cache_dir="~")
    assert (config.runs_path, config.cache_path) == (home / "runs", home)
    assert find_run("~/runs/tiny-ab12", home).path == home / "runs" / "tiny-ab12"
    assert find_study("~/runs/studies/one", home).path == home / "runs" / "studies" / "one"
    for role in ("files", "curated", "held_out"):
        paths = {"files": ["~/a.txt"]} | {role: ["~/*.txt"]}
        if role != "held_out":
            [source] = local_sources(LocalCorpusConfig(**paths))
            assert source.files == (home / "a.txt",)
    assert normalized(["checkpoint=~/runs/studies/one"]) == ['study.folder="~/runs/studies/one"']
    with pytest.raises(UserError, match="has no checkpoint"):
        glam.load("~/runs/tiny-ab12")
    with pytest.raises(UserError, match="has no checkpoint"):
        glam.load("tiny", runs_dir="~/runs")


def test_a_relative_path_lies_in_the_repository():
    assert RunConfig().runs_path == ROOT / "runs"


@pytest.mark.parametrize("key", ["runs_dir", "cache_dir"])
def test_the_home_of_nobody_and_a_nul_are_refused_in_one_line(key):
    for value, said in (("~nobody-here/x", "no home directory is known"), ("a\0b", "the NUL")):
        with pytest.raises(UserError, match=said) as refusal:
            RunConfig(**{key: value})
        assert str(refusal.value).startswith(f"{key}=")
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="run=~nobody-here: no home directory"):
        find_run("~nobody-here", ROOT)


def test_home_that_is_not_at_the_beginning_is_a_name():
    assert str(typed_path("key", "a/~b")) == "a/~b"
