"""What chaos compares: all of a run but what the clock says."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest

from experiments.reliability.left_behind import digests
from experiments.reliability.setups import set_ups

sys.path.append(str(Path(__file__).parents[1] / "training"))
import toy


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Folders of runs: the same run twice, broken off nowhere, and one of another seed."""
    root = tmp_path_factory.mktemp("left")
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        folder = toy.folder(root / name / "toy")
        config = toy.config(6, seed=seed)
        folder.write_config(config)
        toy.train(config, toy.prepared(), folder, toy.RESOURCES)
        summary = {"loss": {"mean": 1.5 + seed}, "train_seconds": hash(name), "status": "done"}
        folder.write_json("summary.json", summary)  # sealed, seconds included
    return root


def test_the_same_run_leaves_the_same_whatever_the_clock_says(left):
    one, again = digests(left / "one"), digests(left / "again")
    assert one == again
    assert {name.partition(" ")[2] for name in one} >= {"weights", "rows", "summary"}


def test_another_run_differs_in_every_part(left):
    one, other = digests(left / "one"), digests(left / "other")
    assert [name for name in one if one[name] == other[name]] == []


@pytest.mark.parametrize("what", ["a row twice", "a row missing", "another loss", "no summary"])
def test_what_is_not_the_same_is_named(left, tmp_path, what):
    shutil.copytree(left / "one", tmp_path / "changed")
    run = tmp_path / "changed" / "toy"
    lines = (run / "metrics.csv").read_text().splitlines()
    if what == "a row twice":
        lines.append(lines[-1])
    elif what == "a row missing":
        del lines[1]
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    if what == "another loss":
        (run / "summary.json").write_text(json.dumps({"loss": {"mean": 2}, "status": "done"}))
    elif what == "no summary":
        (run / "summary.json").unlink()
    one, changed = digests(left / "one"), digests(tmp_path / "changed")
    part = "rows" if "row" in what else "summary"
    assert [name for name in one if one[name] != changed[name]] == [f"toy {part}"]


def test_every_engine_and_launcher_that_is_here_is_killed(tmp_path):
    names = [one.name for one in set_ups(Path(sys.executable))]
    assert {"1 thread", "2 threads", "2 ranks", "4 ranks", "grid", "8 XLA devices"} <= {*names}
    assert "8 XLA devices" not in [one.name for one in set_ups(tmp_path / "none")]
    assert len(set(names)) == len(names)


def test_the_committed_table_has_no_run_that_is_not_exact():
    table = Path(__file__).parents[2] / "experiments" / "reliability" / "chaos.csv"
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert rows
    assert [row for row in rows if row["exact"] != "yes"] == []
