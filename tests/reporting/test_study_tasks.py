"""A study's tasks: paired by seed as losses are, and shown against the swept key."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from glam.analysis.paired import EXPERTS, StudyRow, differences
from glam.analysis.tasks import scored
from glam.reporting import study_report

Rows = Callable[..., list[dict[str, Any]]]
SWEPT = [EXPERTS, "seed"]


@pytest.fixture
def judged(rows_by_experts: Rows) -> list[dict[str, Any]]:
    """Runs whose scores grow with the experts."""
    draws = random.Random(0)
    rows = rows_by_experts(experts=(1, 4, 16), seeds=4)
    for row in rows:
        size = row["values"][EXPERTS]
        row["summary"]["tasks"] = {
            "embedded": {
                "agreement": score(0.7 + 0.01 * size + draws.gauss(0, 0.01), 0.5),
                "completion": score(0.4 + draws.gauss(0, 0.01), 0.05),
            }
        }
    return rows


def score(value: float, chance: float, **others: Any) -> dict[str, Any]:
    found = {"metric": "acc", "value": value, "stderr": 0.02, "low": value, "high": value}
    return {**found, "chance": chance, "items": 300, "num_fewshot": 0, **others}


def test_scores_are_paired_by_seed_with_students_interval(judged: list[dict[str, Any]]) -> None:
    rows = scored([StudyRow.of(row) for row in judged])

    [_, last] = differences(rows, EXPERTS, 1, "agreement")

    by_size = {
        size: [
            row["summary"]["tasks"]["embedded"]["agreement"]["value"]
            for row in judged
            if row["values"][EXPERTS] == size
        ]
        for size in (1, 16)
    }
    oracle = stats.ttest_rel(by_size[16], by_size[1])
    assert last.num_seeds == 4
    assert last.interval == pytest.approx(oracle.confidence_interval(0.95))


def test_the_page_has_a_panel_a_task_a_table_and_a_sentence(
    tmp_path: Path, judged: list[dict[str, Any]]
) -> None:
    study = tmp_path / "runs" / "studies" / "study"
    study_report(study, judged, SWEPT)

    page = (study / "study.html").read_text(encoding="utf-8")
    assert page.count('aria-label="Score, ') == 3  # the mean and two tasks
    assert "chance 0.50" in page
    assert "Differences in tasks to the dense twin" in page
    assert "Mean score over 2 tasks with experts 16 against the dense twin: +0." in page
    assert (study / "tasks_by_experts.png").stat().st_size > 1000
    assert "tasks_by_experts.pdf" in page


def test_runs_that_were_asked_otherwise_are_not_compared(judged: list[dict[str, Any]]) -> None:
    judged[0]["summary"]["tasks"]["embedded"]["completion"]["items"] = 299
    del judged[1]["summary"]["tasks"]  # by an older version

    rows = scored([StudyRow.of(row) for row in judged])

    assert set(rows[0].part("loss")) == {"mean", "agreement"}
    assert rows[1].part("loss") == {}
    assert [one.num_seeds for one in differences(rows, EXPERTS, 1, "agreement")] == [3, 3]


def test_a_study_without_tasks_says_nothing_of_them(tmp_path: Path, rows_by_experts: Rows) -> None:
    study_report(tmp_path / "study", rows_by_experts(experts=(1, 8), seeds=2), SWEPT)

    page = (tmp_path / "study" / "study.html").read_text(encoding="utf-8")
    assert "task" not in page.split("<style>")[0] + page.split("</style>")[-1]
    assert not list((tmp_path / "study").glob("tasks*"))
