"""Every study is in the registry, costs something, and is trained and made by its commands."""

import csv
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from experiments.results import grids
from experiments.results.__main__ import main
from experiments.results.cost import costs
from experiments.results.grids import composed, protocol, row_of, words_of
from experiments.results.machines import machine_here
from experiments.results.registry import EVERY
from experiments.results.runner import PAGES, call, keep
from experiments.results.speeds import AROUND, HERE, TABLES, Speeds
from experiments.results.stamp import begun_here, stamp, why_not
from experiments.results.state import state_of
from experiments.results.study import Study
from glam.config import ROOT
from glam.errors import UserError
from glam.machine.resources import num_cores
from glam.reporting.study_table import MACHINE

TINY = (
    "model.d_model=16 model.d_ff=32 model.num_heads=2 model.vocab_size=300 training.tokens=12800 "
    "training.sequence_length=32 training.batch_size=4 evaluation=held_out evaluation.points=1 "
    "evaluation.tokens_per_domain=500 evaluation.tokens_per_point=500 data/corpus=local "
    "data=unfiltered hardware.threads=1 hardware.max_jobs=1 study.name=tiny "
    "study.compares=model.num_experts study.baseline=1 model.num_experts=1,4 seed=0"
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for name in ("notes", "letters"):
        lines = [
            json.dumps({"text": " ".join(f"{name} {i} says word {i * j % 97}" for j in range(40))})
            for i in range(60)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def tiny(tmp_path, texts) -> Study:
    """A study of two runs of a second each, its files in the test's folder."""
    files = f"data.corpus.files=[{texts / 'notes.jsonl'},{texts / 'letters.jsonl'}]"
    return Study(
        name="tiny",
        grid=f"{TINY} {files} cache_dir={texts / 'cache'}",
        place=str(tmp_path / "tiny"),
        from_tables=("experiments.redraw {table} loss_by_experts {compares}",),
    )


@pytest.fixture
def runs(tmp_path) -> str:
    return str(tmp_path / "runs")


def cells_of(study: Study, runs: str):
    return composed(words_of(study.grid, runs)).cells


def rows_of(cells, machine: tuple[str, ...] | None = None, **others: str) -> list[dict[str, str]]:
    """As the grid's table has them, of this machine where nothing else is said; in the names of
    the others _ stands for /."""
    where = machine or machine_here(cells[0].resources)
    return [
        {
            **{key: str(value) for key, value in cell.values.items()},
            **{"id": cell.run.id, "run": cell.run.path.name, "status": "done", "loss/mean": "4.5"},
            **{"tokens": "12800", "train_seconds": "2.56"},
            **dict(zip(MACHINE, where, strict=True)),
            **{key.replace("_", "/"): value for key, value in others.items()},
        }
        for cell in cells
    ]


def written(study: Study, rows: list[dict[str, str]]) -> Path:
    study.folder.mkdir(exist_ok=True)
    with study.table_file.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return study.table_file


def refused(capsys, *words: str, every) -> str:
    """The one line that is said."""
    with pytest.raises(SystemExit) as stopped:
        main(words, every)
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.out == ""
    return said.err


# The registry


def test_every_folder_with_the_table_of_a_study_is_in_the_registry():
    folders = {study.folder for study in EVERY}
    assert len(folders) == len(EVERY) == len({study.name for study in EVERY})
    for file in (ROOT / "experiments").glob("**/results.csv"):
        head = file.read_text().partition("\n")[0].split(",")
        if {"status", "loss/mean", "id"} <= {*head}:
            assert file.parent in folders, file


def test_every_long_experiment_is_in_the_registry():
    named = {
        word.removeprefix("experiment=")
        for study in EVERY
        for word in shlex.split(study.grid)
        if word.startswith("experiment=")
    }
    files = (ROOT / "conf" / "experiment").glob("**/full.yaml")
    every = {file.parent.relative_to(ROOT / "conf" / "experiment").as_posix() for file in files}
    assert {f"{name}/full" for name in every} == named


def test_a_study_comes_after_what_it_needs():
    seen: list[str] = []
    for study in EVERY:
        assert set(study.needs) <= set(seen), study.name
        seen.append(study.name)


@pytest.mark.parametrize("study", EVERY, ids=lambda study: study.name)
def test_every_module_that_makes_files_of_a_study_is_there(study):
    lines = [*study.before, *study.from_runs, *study.from_tables]
    lines += study.script.lines if study.script else []
    assert lines
    for line in lines:
        assert importlib.util.find_spec(shlex.split(line)[0]) is not None, line


def test_every_study_composes_to_different_runs_and_costs_something(tmp_path):
    states = [state_of(study, str(tmp_path / "runs"), again=True) for study in EVERY]
    for cost in costs(states):
        state = cost.state
        names = [str(cell.run.path) + cell.name for cell in state.cells]
        assert len(set(names)) == len(names), state.study.name
        trains = bool(state.study.grid or state.study.script)
        assert bool(state.left) == trains
        # The default runs that two studies judge are trained by the first.
        shared = state.study.name in ("embedded_tasks", "serving")
        assert (cost.hours > 0) == (trains and not shared)


# What is done


def test_a_table_with_every_run_of_one_machine_is_the_studys(tiny, runs):
    written(tiny, rows_of(cells_of(tiny, runs), ("EPYC", "avx2", "avx2")))
    state = state_of(tiny, runs)
    assert (state.is_done, state.rows, state.left) == (True, 2, [])
    assert state_of(tiny, runs, again=True).why == "to be trained again"


@pytest.mark.parametrize(
    ("machines", "why"),
    [
        ([("EPYC", "avx2", "avx2")], "has 1 of 2 runs, from EPYC (avx2 kernels)"),
        ([("EPYC", "avx2", "avx2"), ("Xeon", "avx2", "avx2")], "is of several machines: EPYC"),
        ([("", "", ""), ("", "", "")], "does not say which machine"),
    ],
)
def test_rows_that_would_be_mixed_do_not_count(tiny, runs, machines, why):
    cells = cells_of(tiny, runs)
    both = zip(cells, machines, strict=False)
    written(tiny, [row for cell, where in both for row in rows_of([cell], where)])
    state = state_of(tiny, runs)
    assert why in state.why
    assert len(state.left) == 2


def test_a_table_of_another_grid_does_not_count(tiny, runs):
    written(tiny, rows_of(cells_of(tiny, runs), id="0123456789"))
    assert "is of another grid" in state_of(tiny, runs).why


def test_a_run_that_was_not_ended_is_no_row(tiny, runs):
    written(tiny, rows_of(cells_of(tiny, runs), status="failed"))
    assert "no table" in state_of(tiny, runs).why


def test_a_file_that_the_runs_made_is_missed(tiny, runs):
    study = replace(tiny, makes=("loads.csv",))
    written(study, rows_of(cells_of(study, runs)))
    assert state_of(study, runs).why == "loads.csv is missing"


def test_a_table_without_the_scores_of_tasks_is_none_of_runs_that_are_judged_on_them(tiny, runs):
    study = replace(tiny, grid=tiny.grid.replace("evaluation=held_out", "evaluation=embedded"))
    cells = cells_of(study, runs)
    written(study, rows_of(cells))
    assert "has no scores of tasks" in state_of(study, runs).why
    written(study, rows_of(cells, tasks_embedded_domain="0.5"))
    assert state_of(study, runs).is_done


def test_a_stamp_without_its_table_is_not_enough(tiny, runs):
    study = replace(tiny, measured=True)
    stamp(study.folder, cells_of(study, runs), done=True)
    assert state_of(study, runs).why == "results.csv is missing"
    study.table_file.write_text("model,value\n")
    assert state_of(study, runs).is_done


def test_a_budget_of_seconds_is_found_by_the_tokens_that_another_machine_made_of_it(tiny, runs):
    timed = tiny.grid.replace("training.tokens=12800", "training.seconds=20,60")
    [cell, *_] = composed(words_of(timed, runs)).cells
    assert not grids.is_known(cell)
    [theirs, *_] = composed(words_of(tiny.grid.replace("12800", "25600"), runs)).cells
    row = {"id": theirs.run.id, "tokens": "25600", "model.num_experts": "1", "seed": "0"}
    assert row_of(cell, [row | {"training.seconds": "20"}]) is not None
    assert row_of(cell, [row | {"training.seconds": "60"}]) is None
    assert row_of(cell, [row | {"training.seconds": "20", "tokens": "12800"}]) is None


def test_what_the_rows_do_not_say_is_stamped(tiny, runs, tmp_path):
    cells = cells_of(tiny, runs)
    others = cells_of(replace(tiny, grid=tiny.grid.replace("seed=0", "seed=0,1")), runs)
    assert "no trained.json" in why_not(tmp_path, cells)
    stamp(tmp_path, cells, done=False)
    assert begun_here(tmp_path, cells)
    assert "not ended" in why_not(tmp_path, cells)
    stamp(tmp_path, cells, done=True)
    assert why_not(tmp_path, cells) == ""
    assert "another grid" in why_not(tmp_path, others)
    assert not begun_here(tmp_path, others)
    said = json.loads((tmp_path / "trained.json").read_text())
    assert tuple(said[name] for name in MACHINE) == machine_here(cells[0].resources)


def test_seconds_are_the_protocol_whatever_tokens_they_are(tiny, runs):
    grid = tiny.grid.replace("training.tokens=12800", "training.seconds=20")
    cells = composed(words_of(grid, runs)).cells
    tokens = [
        replace(
            cell,
            config=replace(cell.config, training=replace(cell.config.training, seconds=None)),
            seconds=20.0,
        )
        for cell in cells
    ]
    assert protocol(cells) == protocol(tokens)
    longer = composed(words_of(grid.replace("=20", "=30"), runs)).cells
    assert protocol(cells) != protocol(longer)


# What it costs


def test_hours_are_by_the_table_and_by_runs_that_lie_here(tiny, runs):
    cells = cells_of(tiny, runs)
    written(tiny, rows_of(cells, ("EPYC", "avx2", "avx2"), id="0123456789"))
    [cost] = costs([state_of(tiny, runs)])
    assert cost.sources == (TABLES,)
    assert cost.hours == pytest.approx(2 * (2.56 + AROUND) / num_cores() / 3600)
    ended(cells[0], seconds=7.68, around=3.0)
    state = state_of(tiny, runs)
    assert [cell.name for cell in state.left] == [cells[1].name]
    speeds = Speeds.of([state], machine_here(cells[0].resources))
    assert speeds.estimate(cells[0].config, cells[0].resources) == (7.68 + 3.0, HERE)
    # What the table has of the first run tells how it is to be read of the second.
    seconds, source = speeds.estimate(cells[1].config, cells[1].resources)
    assert (seconds, source) == (pytest.approx(3 * 2.56 + 3.0), TABLES)
    assert speeds.factors[TABLES] == pytest.approx(3)


def ended(cell, seconds: float, around: float) -> None:
    """A finished run in its folder."""
    cell.run.path.mkdir(parents=True)
    summary = {"status": "done", "id": cell.run.id, "train_seconds": seconds, "tokens": 12800}
    cell.run.write_json("summary.json", summary)
    phases = {"start": around, "training": seconds}
    spent = {name: {"wall": one, "cpu": one, "times": 1} for name, one in phases.items()}
    cell.run.write_json("seconds.json", spent)


def test_a_run_of_two_studies_is_counted_once(tiny, runs, tmp_path):
    other = replace(tiny, name="other", place=str(tmp_path / "other"))
    first, second = costs([state_of(tiny, runs), state_of(other, runs)])
    assert first.hours > 0
    assert (second.hours, second.sources) == (0, ())


# The command


def test_a_study_that_is_not_there_is_refused(capsys, tiny):
    assert "no study 'tinny'; there are tiny" in refused(capsys, "tinny", every=(tiny,))


@pytest.mark.parametrize("word", ["--agian", "--runs=", "-x"])
def test_an_option_that_is_not_there_is_refused(capsys, tiny, word):
    assert "--runs=FOLDER" in refused(capsys, word, every=(tiny,))


def test_a_study_whose_tables_are_not_there_is_refused(capsys, tiny, runs):
    lead = Study(name="lead", needs=("tiny",), from_tables=("experiments.lead {tables}",))
    said = refused(capsys, "lead", f"--runs={runs}", every=(tiny, lead))
    assert "lead needs the table of tiny" in said
    assert "python -m experiments.results tiny lead" in said
    written(tiny, rows_of(cells_of(tiny, runs), id="0123456789"))
    assert "is of another grid" in refused(capsys, "lead", f"--runs={runs}", every=(tiny, lead))


@pytest.mark.parametrize("text", ["id,status\nx\n", "\xff\xfe"])
def test_a_table_that_cannot_be_read_is_refused(capsys, tiny, runs, text):
    tiny.folder.mkdir()
    tiny.table_file.write_bytes(text.encode("latin-1"))
    assert str(tiny.table_file) in refused(capsys, "cost", f"--runs={runs}", every=(tiny,))


def test_a_grid_with_a_misspelt_key_is_refused(capsys, tiny, runs):
    wrong = replace(tiny, grid=tiny.grid.replace("d_model", "dmodel"))
    with pytest.raises(UserError):
        composed(words_of(wrong.grid, runs))
    assert "model.d_model" in refused(capsys, "cost", f"--runs={runs}", every=(wrong,))


def test_only_the_grids_rows_are_kept_and_all_of_them(capsys, tiny, runs):
    cells = cells_of(tiny, runs)
    study = Path(runs) / "studies" / "tiny"
    study.mkdir(parents=True)
    before = rows_of(cells[:1], id="0123456789", loss_web="4.4")
    before += rows_of(cells, loss_mean="4.0", loss_web="")
    written(replace(tiny, place=str(study), table="study.csv"), before)
    keep(tiny, runs)
    with tiny.table_file.open(newline="") as file:
        kept = list(csv.DictReader(file))
    assert [row["id"] for row in kept] == [cell.run.id for cell in cells]
    assert {row["loss/mean"] for row in kept} == {"4.0"}
    assert "loss/web" not in kept[0]
    written(replace(tiny, place=str(study), table="study.csv"), before[:2])
    with pytest.raises(SystemExit):
        keep(tiny, runs)
    assert "is of another grid: it has 1 of 2 runs" in capsys.readouterr().err
    mixed = rows_of(cells[:1], ("EPYC", "avx2", "avx2")) + rows_of(cells[1:])
    written(replace(tiny, place=str(study), table="study.csv"), mixed)
    with pytest.raises(SystemExit):
        keep(tiny, runs)
    assert "are of several machines (EPYC (avx2 kernels), " in capsys.readouterr().err


@pytest.fixture
def no_handler_of_another():
    """Ray's, which a test before this one may have left, ends the process."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("no_handler_of_another")
def test_a_signal_is_handed_on_and_waited_for(capsys, tmp_path):
    said = tmp_path / "said"
    code = (
        "import pathlib, sys, time\n"
        "said = pathlib.Path(sys.argv[1])\n"
        "try:\n said.touch(); time.sleep(600)\n"
        "except KeyboardInterrupt:\n time.sleep(0.2); said.write_text('saved')"
    )

    def stop() -> None:
        while not said.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(SystemExit) as stopped:
        call(["-c", code, str(said)])
    stopper.join()
    assert stopped.value.code == 128 + signal.SIGTERM
    assert said.read_text() == "saved"
    assert capsys.readouterr().err == "stopped; the same command goes on\n"


def test_a_line_that_fails_ends_the_command_with_its_status(capsys):
    with pytest.raises(SystemExit) as failed:
        call(["-c", "import sys; sys.exit(3)"])
    assert failed.value.code == 3
    assert capsys.readouterr().err.endswith("ended with status 3; the same command goes on\n")


RUNNER = """
import sys
from experiments.results.__main__ import main
from experiments.results.study import Study
name, grid, place, runs = sys.argv[1:]
main([f"--runs={runs}"], (Study(name=name, grid=grid, place=place),))
"""


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_and_is_then_rendered_alone(capfd, monkeypatch, tiny, runs):
    monkeypatch.setattr("experiments.results.runner.PAGES", f"{PAGES}_not_here")
    first, second = cells_of(tiny, runs)
    kill_after(first.run.summary_file, tiny, runs)
    assert not second.is_done
    assert not tiny.table_file.exists()
    before = first.run.summary_file.stat()

    capfd.readouterr()
    assert main([f"--runs={runs}"], (tiny,)) == 0
    said = capfd.readouterr().out
    assert "| tiny | 2 | 0 | 1 | 1 |" in said
    assert "study 1 of 1: tiny" in said
    assert first.run.summary_file.stat() == before
    with tiny.table_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [first.run.id, second.run.id]
    assert {row["processor"] for row in rows} == {machine_here(first.resources)[0]}
    assert all(row["commit"] for row in rows)
    assert {file.name for file in tiny.folder.iterdir()} == {
        *("results.csv", "loss_by_experts.png", "loss_by_experts.svg"),
    }

    assert main(["tiny", "--runs=elsewhere"], (tiny,)) == 0  # the table is enough
    said = capfd.readouterr().out
    assert "run.py" not in said
    assert "experiments.redraw" in said


def kill_after(file: Path, study: Study, runs: str) -> None:
    """Ends a runner without warning, once the file is there, and waits for its grid to stop."""
    line = [sys.executable, "-c", RUNNER, study.name, study.grid, str(study.folder), runs]
    with subprocess.Popen(line, cwd=ROOT) as runner:
        deadline = time.monotonic() + 900
        while not file.exists():
            assert runner.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        grids_of = psutil.Process(runner.pid).children(recursive=True)
        runner.kill()
    assert any("run.py" in " ".join(one.cmdline()) for one in grids_of if one.is_running())
    _, alive = psutil.wait_procs(grids_of, timeout=300)
    assert alive == []
