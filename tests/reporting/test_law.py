"""The scaling law on a study's page."""

import copy
import json

import numpy as np
import pytest

from glam.analysis.law_forms import BYTES_PER_TOKEN, FORMS, NAMES
from glam.analysis.paired import StudyRow
from glam.reporting import study_report
from glam.reporting.law import MEANING, WHOSE, bytes_per_token, section


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
    every = [told, *told["other_forms"]]
    assert {one["form"] for one in every} == set(FORMS)
    assert [one["error"] for one in every] == sorted(one["error"] for one in every)
    assert f"The page uses {WHOSE[told['form']]}" in page
    inside = sum(cell["inside"] for cell in told["held_out"])
    assert f"{inside} of 3 cells lie inside" in page
    assert told["split"] == "the largest size at the most tokens"
    assert {"law.png", "law.svg", "law_residuals.png"} <= {f.name for f in tmp_path.iterdir()}


def test_a_grid_that_still_trains_has_no_law_yet(grid):
    waiting = {"run": "last", "values": {}, "status": "unfinished", "summary": None}
    found, files = section("study", [StudyRow.of(row) for row in [*grid, waiting]])
    assert found == {"sentence": "The scaling law waits for unfinished runs: 1."}
    assert not files


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


def test_a_law_that_misses_the_bar_sends_the_reader_to_the_cells(grid, tmp_path):
    for row in grid:
        if row["summary"]["tokens"] == 6.4e7 and row["summary"]["parameters"]["active"] == 1.6e6:
            row["summary"]["loss"]["mean"] *= 1.2
    study_report(tmp_path, grid, swept(grid))
    told = json.loads((tmp_path / "law.json").read_text())
    assert not any(one["accepted"] for one in (told, *told["other_forms"]))
    page = (tmp_path / "study.html").read_text()
    assert "go by the cells below, not by the law" in page
    assert "Experts at equal FLOPs, from the cells" in page
    [largest] = [one for one in told["cells"] if (one["active"], one["tokens"]) == (1.6e6, 6.4e7)]
    assert largest["experts"] == 16
    assert set(largest["rivals"]) <= {1, 4, 16}


def test_every_constant_and_form_has_its_words():
    assert set(MEANING) == set(NAMES)
    assert set(WHOSE) == set(FORMS)


def test_a_pinned_floor_is_that_of_the_tokens_of_the_study(grid):
    cells = [StudyRow.of(row) for row in grid]
    for cell in cells:
        cell.summary["bits_per_byte"] = {"mean": cell.loss("mean") / np.log(2) / 4}
    assert bytes_per_token(cells) == pytest.approx(4)
    _, files = section("study", cells)
    told = json.loads(files["law.json"])
    [form] = [one for one in (told, *told["other_forms"]) if one["form"] == "power_mean"]
    assert form["pinned"]["e"] == pytest.approx(0.6 * 4 * np.log(2))
    for cell in cells:
        cell.summary["bits_per_byte"] = {}
    assert bytes_per_token(cells) == BYTES_PER_TOKEN
