"""A study lists runs: a longer line extends it, another budget starts another."""

import json
import os
from dataclasses import replace

import pytest

from glam.config import ModelConfig, RunConfig, StudyConfig, TaskConfig
from glam.errors import UserError
from glam.machine.resources import resolve
from glam.reporting import refresh_study
from glam.runs.folder import RunFolder
from glam.studies import grid
from glam.studies.study import Study, TrainingCell
from glam.tasks.report import report

SUMMARY = {"status": "done", "loss": {"mean": 4.0}}


@pytest.fixture
def cells(tmp_path):
    def make(
        *experts: int, fixed: tuple[str, ...] = (), name: str | None = None
    ) -> list[TrainingCell]:
        made = []
        for count in experts:
            config = replace(
                RunConfig(),
                runs_dir=str(tmp_path),
                model=ModelConfig(num_experts=count),
                study=StudyConfig(name=name),
            )
            run = RunFolder(tmp_path / f"tiny-{count}")
            overrides = [f"model.num_experts={count}", *fixed]
            values = {"model.num_experts": count}
            cell = TrainingCell(
                overrides=overrides,
                values=values,
                config=config,
                resources=resolve(config),
                run=run,
            )
            made.append(cell)
        return made

    return make


SWEPT = ["model.num_experts"]


def test_a_longer_list_extends_the_study(cells):
    Study.of(cells(8, 16), SWEPT).record()
    longer = Study.of(cells(32), SWEPT)
    longer.record()
    assert [r["values"]["model.num_experts"] for r in longer.folder.rows()] == [8, 16, 32]


def test_the_order_of_the_line_does_not_matter(cells):
    assert Study.of(cells(8, 16), SWEPT).name == Study.of(cells(16, 8), SWEPT).name


def test_another_budget_is_another_study(cells):
    small = Study.of(cells(8, fixed=("training.tokens=1000",)), SWEPT)
    assert small.name != Study.of(cells(8), SWEPT).name
    assert small.name.startswith("num_experts-")


def test_where_it_runs_does_not_name_the_study(cells):
    there = cells(8, fixed=("runs_dir=elsewhere", "logger=csv", "hardware.max_jobs=1"))
    assert Study.of(there, SWEPT).name == "num_experts"


def test_a_named_study_keeps_its_name(cells):
    assert Study.of(cells(8, name="mine"), SWEPT).name == "mine"
    typed = ("study.name=mine", "training.tokens=1000")
    assert Study.of(cells(8, fixed=typed, name="mine"), SWEPT).name == "mine"


def test_an_experiment_on_another_budget_is_a_study_beside_it(cells):
    other = Study.of(cells(8, fixed=("training.tokens=1000",), name="quick"), SWEPT)
    assert other.name.startswith("quick-")
    third = Study.of(cells(8, fixed=("training.tokens=2000",), name="quick"), SWEPT)
    assert third.name not in ("quick", other.name)


def test_what_became_of_a_cell_is_read_from_its_folder(cells):
    made = cells(4, 8, 16)
    study = Study.of(made, SWEPT)
    study.record()
    for cell in made[:2]:
        cell.run.path.mkdir()
    made[0].run.write_json("summary.json", SUMMARY)
    made[1].run.write_json("failure.json", {"error": "killed by SIGKILL"})
    assert [r["status"] for r in study.folder.rows()] == ["done", "failed", "unfinished"]
    assert study.failures() == ["num_experts=8 (killed by SIGKILL)", "num_experts=16 (unfinished)"]


def test_a_run_killed_before_its_report_gets_one_with_the_study(cells, capsys):
    study = Study.of(cells(8, 16), SWEPT)
    study.record()
    for cell in study.cells:
        cell.run.path.mkdir()
        cell.run.write_json("summary.json", SUMMARY)
    study.cells[0].run.report_file.write_text("as it was")
    assert grid._write(study)
    first, second = (cell.run.report_file.read_text() for cell in study.cells)
    assert first == "as it was"
    assert "<h1>" in second


def test_a_damaged_list_is_refused_not_forgotten(cells):
    study = Study.of(cells(8), SWEPT)
    study.folder.path.mkdir(parents=True)
    (study.folder.path / "cells.json").write_text("{")
    with pytest.raises(UserError, match=r"cells.json cannot be read .* writes it again"):
        study.record()
    (study.folder.path / "cells.json").unlink()
    study.record()
    assert len(json.loads((study.folder.path / "cells.json").read_text())["cells"]) == 1


@pytest.mark.parametrize("run", ["../elsewhere", "/etc", "a/b", "..", "", "."])
def test_a_study_lists_runs_by_plain_names(cells, run):
    study = Study.of(cells(8), SWEPT)
    study.folder.path.mkdir(parents=True)
    listed = {"swept": [], "study": {}, "cells": [{"run": run, "values": {}}]}
    (study.folder.path / "cells.json").write_text(json.dumps(listed))
    with pytest.raises(UserError, match="is no name of a run"):
        study.folder.rows()


def test_a_study_is_written_anew_from_its_folder_with_what_it_asks(cells, capsys):
    made = cells(1, 8)
    for cell in made:
        cell.config.study.compares, cell.config.study.baseline = "model.num_experts", "8"
        cell.run.path.mkdir()
        cell.run.write_json("summary.json", SUMMARY)
    study = Study.of(made, SWEPT)
    study.record()
    folder = study.folder.path
    config = RunConfig(task=TaskConfig(name="report"), run=str(folder))
    report(config, [])
    assert capsys.readouterr().out.strip() == str(folder / "study.html")
    page = (folder / "study.html").read_text()
    assert "<h2>Difference to experts 8</h2>" in page
    assert "dense twin" not in page


PROGRESS = {"stage": "train", "done": 30, "total": 120, "seconds_left": None}


def test_a_run_that_goes_on_says_how_far_it_is(cells):
    [cell] = made = cells(8)
    study = Study.of(made, SWEPT)
    study.record()
    cell.run.path.mkdir()
    cell.run.write_json("progress.json", PROGRESS)
    assert study.folder.rows()[0]["progress"] is None  # nobody has it: left behind by a kill
    with cell.run.lock():
        assert study.folder.rows()[0]["progress"]["done"] == 30


def test_while_a_grid_goes_on_a_fresh_page_is_left_alone(cells):
    made = cells(8)
    study = Study.of(made, SWEPT)
    study.record()
    refresh_study(study.folder)
    written = (page := study.folder.path / "study.html").stat().st_mtime_ns
    refresh_study(study.folder)
    assert page.stat().st_mtime_ns == written
    os.utime(page, (0, 0))
    refresh_study(study.folder)
    assert page.stat().st_mtime_ns >= written
