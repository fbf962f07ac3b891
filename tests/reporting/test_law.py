"""The scaling law on a study's page."""

import copy
import json

import numpy as np
import pytest

from glam.analysis.paired import StudyRow
from glam.reporting import study_report
from glam.reporting.law import section


@pytest.fixture
def grid(rows_of):
    """Three sizes, three counts of experts, four of tokens and two seeds under a known law."""
    random = np.random.default_rng(0)
    sample = rows_of([{"model.num_experts": 1, "seed": 0}], lambda _: 0.0)[0]
    rows = []
    for n in (1e5, 4e5, 1.6e6):
        for e in (1, 4, 16):
            for d in (1e6, 4e6, 1.6e7, 6.4e7):
                for seed in range(2):
                    row = copy.deepcopy(sample)
                    values = {"model.d_model": int(n**0.5), "model.num_experts": e}
                    row["values"] = {**values, "training.num_steps": int(d // 1024), "seed": seed}
                    row["run"] = f"run-{n:.0f}-{e}-{d:.0f}-{seed}"
                    loss = 1.8 + 15 * (n * e**0.4) ** -0.3 + 40 * d**-0.35
                    loss *= np.exp(random.normal(0, 0.003))
                    row["summary"] |= {
                        "loss": {"mean": loss}, "tokens": d, "seed": seed,
                        "parameters": {"active": n, "total": n * e},
                        "flops_per_token": {"forward": 2 * n},
                    }  # fmt: skip
                    rows.append(row)
    return rows


def swept(rows):
    return list(rows[0]["values"])


def test_a_grid_of_sizes_tokens_and_experts_gets_its_law(grid, tmp_path):
    study_report(tmp_path, grid, swept(grid))
    told = json.loads((tmp_path / "law.json").read_text())
    low, high = told["constants"]["gamma"]["interval"]
    assert low < 0.4 < high
    assert [one["experts"] for one in told["held_out"]] == [1, 4, 16]
    page = (tmp_path / "study.html").read_text()
    assert "Scaling law" in page
    [other] = told["other_forms"]
    assert (told["form"], other["form"]) == ("chinchilla", "kaplan")
    for one, whose in ((told, "Chinchilla"), (other, "Kaplan")):
        inside = sum(cell["inside"] for cell in one["held_out"])
        assert f"{inside} of 3 by {whose}’s form" in page
    assert "The page uses Chinchilla’s form" in page
    assert {"law.png", "law.svg", "law_residuals.png"} <= {f.name for f in tmp_path.iterdir()}


def test_a_grid_too_small_says_what_it_needs(grid, tmp_path):
    few = [row for row in grid if row["summary"]["tokens"] < 5e6]
    study_report(tmp_path, few, swept(few))
    assert "needs 3 sizes" in (tmp_path / "study.html").read_text()
    assert not (tmp_path / "law.json").exists()


def test_a_study_of_experts_alone_shows_no_law(rows_by_experts):
    assert section("study", [StudyRow.of(row) for row in rows_by_experts()]) == (None, {})


def test_runs_that_failed_are_left_out_of_the_fit(grid):
    _, whole = section("study", [StudyRow.of(row) for row in grid])
    failed = {"run": "bad", "values": {}, "status": "failed", "summary": None, "error": "boom"}
    _, found = section("study", [StudyRow.of(row) for row in [*grid, failed]])
    assert found["law.json"] == whole["law.json"]


def test_many_combinations_share_a_sentence_for_every_number_of_experts(grid, tmp_path):
    study_report(tmp_path, grid, swept(grid))
    said = (tmp_path / "study.html").read_text().split("</header>")[0]
    assert "with experts 16 against 1: from −0." in said
    assert said.count("over 12 combinations") == 2


def test_runs_that_differ_in_what_the_law_has_no_place_for_get_none(grid):
    for row in grid:
        row["values"]["optimizer.learning_rate"] = 0.01
    again = copy.deepcopy(grid[:3])
    for row in again:
        row["values"]["optimizer.learning_rate"] = 0.1
    found, files = section("study", [StudyRow.of(row) for row in [*grid, *again]])
    assert found is not None
    assert "differ in optimizer.learning_rate, which the law has no term for" in found["sentence"]
    assert not files


def test_law_json_is_json_whatever_the_fit(grid):
    """Of losses that hardly differ, nothing is identified."""
    for i, row in enumerate(grid):
        row["summary"]["loss"]["mean"] = 3.0 + 1e-9 * i
    _, files = section("study", [StudyRow.of(row) for row in grid])

    def refuse(name):
        raise AssertionError(name)

    json.loads(files["law.json"], parse_constant=refuse)
