import dataclasses
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from math import log, nan
from pathlib import Path

import pytest
import toy

from glam.config import LoggerConfig
from glam.reporting.experts import heat_maps
from glam.runs.machine import machine_of
from glam.tracking import Tracker, open_tracker, session
from glam.tracking.run import WandbTracker, load_figures
from glam.tracking.session import Entry, choose_mode, is_wanted, logged_in, start


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A machine where nobody has logged in to wandb."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE", "WANDB_CACHE_DIR", "NETRC"):
        monkeypatch.setenv(name, "")  # what is set meanwhile is undone with the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_key_is_found_in_the_environment_or_in_netrc(nobody, monkeypatch):
    assert not logged_in()
    netrc = nobody / ".netrc"
    netrc.write_text("machine example.org login user password secret\n")
    netrc.chmod(0o600)
    assert not logged_in()
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert logged_in()


def test_online_is_tried_only_with_a_key_and_where_nothing_forbids_it(nobody, monkeypatch, capsys):
    assert choose_mode(LoggerConfig()) == "offline"
    assert choose_mode(LoggerConfig(mode="online")) == "offline"
    assert "no key" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert choose_mode(LoggerConfig()) == "online"
    assert choose_mode(LoggerConfig(mode="offline")) == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode(LoggerConfig()) == "offline"


ENTRY = Entry(id="1", name="toy", group=None, job_type="train", tags=(), config={})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_MODE", "nonsense"),
        ("WANDB_SILENT", "maybe"),
        ("WANDB_BASE_URL", "foo"),
        ("WANDB__SERVICE_WAIT", "x"),
    ],
)
def test_a_variable_that_wandb_refuses_is_named_and_costs_no_run(
    nobody, monkeypatch, capsys, name, value
):
    import wandb

    wandb.teardown()  # what an earlier test has set up
    monkeypatch.setenv(name, value)
    assert start(LoggerConfig(), nobody, ENTRY) is None
    [said] = [line for line in capsys.readouterr().err.splitlines() if not line.endswith("…")]
    assert said.startswith(f"warning: wandb cannot start ({name}={value}: ")
    assert said.endswith("; going on without")


def test_a_user_without_a_home_goes_on_without_wandb(nobody, monkeypatch, capsys):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    assert start(LoggerConfig(), nobody, ENTRY) is None
    assert "wandb cannot start (HOME is not set, " in capsys.readouterr().err


@pytest.mark.parametrize(("value", "wanted"), [("true", False), ("1", False), ("false", True)])
def test_wandb_disabled_is_honoured(nobody, monkeypatch, value, wanted):
    monkeypatch.setenv("WANDB_DISABLED", value)
    assert is_wanted(LoggerConfig()) is wanted


def test_a_cache_that_cannot_be_written_is_replaced(nobody, monkeypatch, capsys):
    """wandb's service would say so in lines of its own."""
    (nobody / "file").touch()
    monkeypatch.setenv("WANDB_CACHE_DIR", str(nobody / "file"))
    session._have_cache(nobody)
    assert os.environ["WANDB_CACHE_DIR"] == str(nobody / "wandb" / "cache")
    assert f"WANDB_CACHE_DIR={nobody / 'file'} cannot be written" in capsys.readouterr().err


def test_experts_become_three_curves_a_layer():
    figures = load_figures({"load/1/0": 0.5, "load/1/1": 0.25, "load/1/2": 0.25, "loss": 4.0})
    assert figures == pytest.approx(
        {"load/1/busiest": 1.5, "load/1/idlest": 0.75, "load/1/entropy": 1.5 * log(2) / log(3)}
    )
    assert load_figures({"load/3/0": 1.0, "load/3/1": 0.0})["load/3/entropy"] == 0
    assert load_figures({"load/3/0": 0.5, "load/3/1": 0.5})["load/3/entropy"] == pytest.approx(1)


def test_the_load_of_every_layer_is_drawn(tmp_path):
    toy.train(toy.config(12), toy.prepared(), toy.folder(tmp_path), toy.RESOURCES)
    figures = heat_maps(tmp_path)
    assert list(figures) == ["load_map/1"]
    [image] = figures["load_map/1"].axes[0].images
    assert image.get_array().shape == (4, 3)  # experts, evaluations


class Session:
    """What a wandb.Run would be told."""

    def __init__(self, already=0, fails=False):
        self.rows, self.summary, self.fails, self.finished = [], {"tokens": already}, fails, None

    def define_metric(self, *args, **named):
        pass

    def log(self, row):
        if self.fails:
            raise ConnectionResetError("the service is gone")
        self.rows.append(row)

    def finish(self, exit_code):
        self.finished = exit_code


def test_rows_that_a_resumed_run_repeats_are_sent_once(tmp_path):
    session = Session(already=200)
    tracker = WandbTracker(session, toy.folder(tmp_path), 6, heat_maps)
    for tokens in (100, 200, 300):
        tracker.log({"tokens": tokens})
    assert [row["tokens"] for row in session.rows] == [300]


def test_a_rollback_is_an_event_and_its_rows_are_sent_again(tmp_path):
    session = Session()
    tracker = WandbTracker(session, toy.folder(tmp_path), 6, heat_maps)
    rollback = {"step": 30, "reason": "loss spike", "loss": 9.5, "limit": None}
    tracker.log({"tokens": 200})
    for _ in range(2):  # the second time by a process that takes the same rollback again
        tracker.go_back(100, [rollback])
    tracker.log({"tokens": 100}, 1)
    tracker.log({"tokens": 150}, 1)
    first, event, again = session.rows
    assert (first["tokens"], again["tokens"]) == (200, 150)
    told = {"rollback/step": 30, "rollback/reason": "loss spike", "rollback/loss": 9.5}
    assert event == {"tokens": 100, "rollbacks": 1, **told}


def test_a_run_cut_off_after_a_rollback_sends_no_row_of_the_way_to_it_again(tmp_path):
    session = Session(already=150)  # after the rollback from 200 to 100
    session.summary["rollbacks"] = 1
    tracker = WandbTracker(session, toy.folder(tmp_path), 6, heat_maps)
    tracker.log({"tokens": 200, "loss": 9.5}, 0)
    tracker.go_back(100, [{"step": 30}])
    for tokens in (150, 200):
        tracker.log({"tokens": tokens, "loss": 4.0}, 1)
    [row] = session.rows
    assert (row["tokens"], row["loss"]) == (200, 4.0)


def test_a_source_without_a_token_has_no_column(tmp_path):
    session = Session()
    tracker = WandbTracker(session, toy.folder(tmp_path), 6, heat_maps)
    tracker.log({"tokens": 100, "loss": nan, "loss/web": 4.0, "loss/wikipedia": nan})
    [row] = session.rows
    assert {name for name in row if name.startswith("loss")} == {"loss", "loss/web"}


def test_a_failing_wandb_is_told_once_and_fails_nothing(tmp_path, capsys):
    tracker = WandbTracker(Session(fails=True), toy.folder(tmp_path), 6, heat_maps)
    for tokens in (100, 200):
        tracker.log({"tokens": tokens})
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "warning: wandb failed (the service is gone); training goes on"


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_is_closed_as_failed_when_it_fails(tmp_path, monkeypatch, fails):
    session = Session()
    monkeypatch.setattr("glam.tracking.run.start", lambda *_: session)

    config = toy.config(logger="wandb")
    expected = pytest.raises(ValueError, match="on purpose") if fails else nullcontext()
    with expected, open_tracker(config, toy.folder(tmp_path), toy.RESOURCES, heat_maps):
        assert session.finished is None
        if fails:
            raise ValueError("on purpose")
    assert session.finished == int(fails)


@pytest.mark.parametrize("name", ["csv", "none"])
def test_without_wandb_nothing_is_tracked(tmp_path, name):
    config = toy.config(logger=name)
    with open_tracker(config, toy.folder(tmp_path), toy.RESOURCES, heat_maps) as tracker:
        assert type(tracker) is Tracker


RUN = """
import json, sys, toy, pathlib
from glam.config import StudyConfig
from glam.reporting import run_report
from glam.reporting.experts import heat_maps
from glam.tracking import open_tracker
study = StudyConfig(name="experts", cell="num_experts=4, seed=0")
config = toy.config(6, logger=sys.argv[1], study=study)
run = toy.folder(pathlib.Path(sys.argv[2]))
summary = {
    "tokens": 192,
    "train_seconds": 9.5,
    "loss": {"mean": 4.0},
    "energy": {"joules": 57.0},
    "load": [{"layer": 1, "busiest": 1.5}],
    "rollbacks": [],
}
with open_tracker(config, run, toy.RESOURCES, heat_maps) as tracker:
    toy.train(config, toy.prepared(), run, toy.RESOURCES, tracker=tracker)
    tracker.summarize(summary)
    run.write_json("generated.json", [{"prompt": "1 2", "temperature": 0.8, "text": " 3 4"}])
    run_report(run.path)
    tracker.keep_report()
print("wandb" in sys.modules)
"""


def started(folder, logger, **environment):
    tests = Path(toy.__file__).parent
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    clean["GLAM_KERNELS"] = "off"  # a home of its own has none compiled
    paths = f"{tests}{os.pathsep}{tests.parents[1]}"
    return subprocess.run(
        [sys.executable, "-c", RUN, logger, str(folder)],
        env={**clean, "PYTHONPATH": paths, "HOME": str(folder.parent), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["csv", "none"])
def test_these_loggers_never_import_wandb(tmp_path, logger):
    assert started(tmp_path / "toy-1", logger).stdout.strip() == "False"


@pytest.mark.slow
def test_wandb_without_a_login_records_offline_and_says_nothing(tmp_path, recorded):
    folder = tmp_path / "toy-1"
    done = started(folder, "wandb")
    assert done.stdout.strip() == "True"
    assert "wandb" not in done.stderr
    records = recorded(folder)
    [run] = [record["run"] for record in records if record["type"] == "run"]
    assert (run["run_id"], run["display_name"]) == ("1", "num_experts=4, seed=0")
    assert (run["run_group"], run["job_type"]) == ("experts", "train")
    assert run["tags"] == ["glam_tiny", "4 experts", "filtered", "seed 0"]
    summary = {}
    for record in records:
        summary |= record.get("summary", {}).get("update", {})
    points = [r["history"]["item"] for r in records if r["type"] == "history"]
    losses = [point["held_out/mean"] for point in points if "held_out/mean" in point]
    assert summary["held_out/mean"] == {"min": min(losses), "last": losses[-1]}
    assert summary["final/flops"] == 3 * toy.config(6).flops_per_token * 192
    for name, value in (("loss/mean", 4.0), ("train_seconds", 9.5), ("energy/joules", 57.0)):
        assert summary[f"final/{name}"] == value
    assert summary["final/load/1/busiest"] == 1.5
    assert summary["load_map/1.width"] == 800
    assert list(folder.glob("wandb/*/files/media/images/load_map/1_*.png"))
    kept = {r["artifact"]["name"]: json.dumps(r) for r in records if r["type"] == "artifact"}
    assert "report.html" in kept["run-1"]
    assert "generated.json" in kept["run-1"]
    [table] = folder.glob("wandb/offline-run-*/files/media/table/generated_*.json")
    assert json.loads(table.read_text())["data"] == [["1 2", 0.8, " 3 4"]]


@pytest.mark.slow
def test_wandb_out_of_reach_costs_seconds_and_a_line(tmp_path):
    nowhere = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = started(tmp_path / "toy-1", "wandb", **nowhere)
    said = [line for line in done.stderr.splitlines() if "wandb" in line]
    assert len(said) == 1
    assert said[0].endswith("logging offline")
    assert list((tmp_path / "toy-1" / "wandb").glob("offline-run-*-1/run-1.wandb"))


@pytest.mark.slow
def test_wandb_is_told_the_whole_configuration_and_what_follows_from_it(tmp_path, monkeypatch):
    import wandb

    told = {}
    monkeypatch.setattr(wandb, "init", lambda **named: told.update(named) or Session())
    config = toy.config(logger="wandb")
    config.study.name, config.study.cell = "experts", "num_experts=4"
    with open_tracker(config, toy.folder(tmp_path / "toy-7"), toy.RESOURCES, heat_maps):
        pass
    assert (told["id"], told["group"], told["name"]) == ("7", "experts", "num_experts=4")
    assert told["config"]["model"] == dataclasses.asdict(config.model)
    assert told["config"]["derived"]["active_parameters"] == config.model.num_active_params
    assert told["config"]["derived"]["machine"] == machine_of(toy.RESOURCES)
