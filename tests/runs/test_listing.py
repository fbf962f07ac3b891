"""`task=list` says of each run what became of it, and of damaged ones what it can."""

import csv
import io
import json
import os
import sys
from dataclasses import replace

import pytest

from glam.config import ModelConfig, RunConfig, TrainingConfig
from glam.reporting.runs_table import as_csv, as_json, differs_in_words, print_runs
from glam.runs.folder import RunFolder
from glam.runs.listing import list_runs, list_studies


@pytest.fixture
def runs(tmp_path):
    def made(name: str, config: RunConfig, minutes: int, **summary: object) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        run.write_config(config)
        if summary:
            run.write_json("summary.json", summary)
        for file in run.path.iterdir():
            os.utime(file, (60 * minutes, 60 * minutes))
        return run

    small = RunConfig(model=ModelConfig(num_experts=4), seed=1)
    losses = {"loss": {"mean": 4.5, "a": 4.5}, "bits_per_byte": {"mean": 1.5, "a": 1.5}}
    made("tiny-aa", RunConfig(), 1, status="done", tokens=7, study="mine", **losses)
    made("tiny-bb", small, 2, status="diverged", tokens=9, loss={}, bits_per_byte={})
    failed = made("tiny-cc", replace(small, training=TrainingConfig(tokens=5)), 3)
    failed.write_failure("it broke")
    made("tiny-dd", RunConfig(), 0)
    (tmp_path / "studies" / "mine").mkdir(parents=True)
    cells = [{"run": "tiny-aa", "values": {}}, {"run": "tiny-zz", "values": {}}]
    content = {"swept": [], "study": {"compares": "seed"}, "cells": cells}
    (tmp_path / "studies" / "mine" / "cells.json").write_text(json.dumps(content))
    return tmp_path


def test_every_run_is_listed_with_its_state_newest_first(runs):
    (runs / "tiny-ee").mkdir()
    (runs / "tiny-ee" / "config.yaml").write_text(": [")
    os.utime(runs / "tiny-ee" / "config.yaml", (30, 30))
    found = {run.id: run for run in list_runs(runs)}
    assert list(found) == ["cc", "bb", "aa", "ee", "dd"]
    assert {name: run.state for name, run in found.items()} == {
        "aa": "done", "bb": "diverged", "cc": "failed", "dd": "unfinished", "ee": "unfinished",
    }  # fmt: skip
    assert found["aa"].differs == found["ee"].differs == {}
    assert found["cc"].differs == {"tokens": 5, "num_experts": 4, "seed": 1}
    assert (found["aa"].loss, found["aa"].bits_per_byte, found["bb"].loss) == (4.5, 1.5, None)
    assert (found["bb"].tokens, found["cc"].tokens) == (9, 5)
    assert found["aa"].date == "1970-01-01T00:01:00+00:00"
    sizes = sum(file.stat().st_size for file in (runs / "tiny-aa").iterdir())
    assert found["aa"].bytes == sizes


def test_a_run_that_a_process_holds_is_running(runs):
    with RunFolder(runs / "tiny-dd").lock():
        assert {run.id: run.state for run in list_runs(runs)}["dd"] == "running"


def test_listing_leaves_every_folder_as_it_was(runs):
    before = sorted(runs.rglob("*"))
    list_runs(runs)
    list_studies(runs)
    assert sorted(runs.rglob("*")) == before


def test_a_study_counts_its_cells_that_are_done(runs):
    [study] = list_studies(runs)
    assert (study.name, study.state, study.done, study.cells) == ("mine", "unfinished", 1, 2)
    assert study.compares == "seed"


def test_scripts_get_every_field_as_json_and_csv(runs):
    found = list_runs(runs), list_studies(runs)
    content = json.loads(as_json(*found))
    assert [run["id"] for run in content["runs"]] == ["cc", "bb", "aa", "dd"]
    assert content["runs"][0]["differs"] == {"tokens": 5, "num_experts": 4, "seed": 1}
    rows = list(csv.DictReader(io.StringIO(as_csv(*found))))
    assert [row["kind"] for row in rows] == ["run"] * 4 + ["study"]
    assert rows[0]["differs"] == "tokens=5 num_experts=4 seed=1"
    assert rows[2]["loss"] == "4.5"
    assert rows[4]["cells"] == "2"


def test_people_get_a_table(runs, capsys):
    print_runs(list_runs(runs), list_studies(runs))
    said = " ".join(capsys.readouterr().out.split())
    assert "aa done 4.500 1.500" in said
    assert said.count("nothing") == 2
    assert "tokens=5 num_experts=4 seed=1" in said
    assert "mine 1 of 2 seed" in said


def test_at_eighty_columns_a_difference_is_never_broken(runs, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")  # of eighty columns, and without colours
    print_runs(list_runs(runs), [])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    assert {"aa", "done", "4.500", "tokens=5", "num_experts=4", "seed=1"} <= set(words)


def test_differences_are_told_as_they_would_be_typed():
    differing = {"left_out": ["a", "b"], "scan": True, "d_head": None, "seed": 1}
    assert differs_in_words(differing) == "left_out=[a,b] scan=true d_head=null seed=1"
