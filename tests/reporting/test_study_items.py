"""A study's tasks item by item, and in its table."""

import csv
import io

import pytest

from glam.analysis.items import item_differences
from glam.analysis.paired import EXPERTS
from glam.reporting import study_report
from glam.runs.evaluations import ITEMS, file_of
from glam.runs.folder import RunFolder
from glam.units import fixed

SWEPT = [EXPERTS, "seed"]


def items(each):
    task = {"task": "arc", "metric": "acc", "column": "", "digest": "d", "clusters": None}
    return {"suite": "s", "tasks": [{**task, "each": each}]}


@pytest.fixture
def study(rows_by_experts, tmp_path):
    """Runs of which those with more experts get more items right; their items are kept."""
    rows = rows_by_experts(experts=(1, 4), seeds=2)
    for row in rows:
        right = 12 if row["values"][EXPERTS] == 1 else 30
        each = [1] * right + [0] * (40 - right)
        score = {"metric": "acc", "value": right / 40, "chance": 0.25, "items": 40}
        row["summary"]["tasks"] = {"s": {"arc": score}}
        folder = tmp_path / "runs" / row["run"]
        (folder / "evaluation").mkdir(parents=True)
        RunFolder(folder).write_json(file_of("s", ITEMS), items(each))
        row["items"] = items(each)
    study_report(tmp_path / "runs" / "studies" / "mine", rows, SWEPT)
    return tmp_path / "runs" / "studies" / "mine", rows


def test_the_page_compares_the_items_of_runs_that_share_their_seeds(study):
    folder, rows = study
    page = (folder / "study.html").read_text()
    of = {n: [row["items"] for row in rows if row["values"][EXPERTS] == n] for n in (1, 4)}
    [found] = item_differences({"4": (of[1], of[4])})["4"]
    assert found.mean == pytest.approx(18 / 40)
    assert 'id="items"' in page
    half = (found.interval[1] - found.interval[0]) / 2
    assert f"+0.450 ± {fixed(half)}*" in page
    assert f"{fixed(found.smallest)}" in page
    assert "2 seeds" in page


def test_the_table_has_a_column_a_task_and_a_mean_of_the_suite(study):
    folder, rows = study
    table = list(csv.DictReader(io.StringIO((folder / "study.csv").read_text())))
    assert [float(row["tasks/s/arc"]) for row in table] == [
        row["summary"]["tasks"]["s"]["arc"]["value"] for row in rows
    ]
    assert '<th scope="col" class="n">s</th>' in (folder / "study.html").read_text()


def test_a_study_whose_runs_kept_no_items_has_no_such_section(rows_by_experts, tmp_path):
    rows = rows_by_experts(experts=(1, 4), seeds=2)
    study_report(tmp_path / "studies" / "mine", rows, SWEPT)
    page = (tmp_path / "studies" / "mine" / "study.html").read_text()
    assert 'id="items"' not in page
