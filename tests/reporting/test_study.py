"""The page, the table and the figures of a study."""

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from glam.analysis.paired import (
    EXPERTS,
    StudyRow,
    axis_key,
    baseline,
    differences,
    gain_per_doubling,
    interval,
)
from glam.config import StudyConfig
from glam.reporting import study_report

Rows = Callable[..., list[dict[str, Any]]]
SWEPT = [EXPERTS, "seed"]


def read(study: Path) -> tuple[str, list[dict[str, str]]]:
    with (study / "study.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return (study / "study.html").read_text(encoding="utf-8"), rows


def test_the_table_has_a_row_a_cell_and_says_what_became_of_it(
    tmp_path: Path, rows_by_experts: Rows
) -> None:
    rows = rows_by_experts(experts=(1, 8), seeds=2)
    rows[2]["summary"]["load"] = [
        {"layer": 1, "busiest": 1.5, "idlest": 0.5, "dropped": 0.0},
        {"layer": 3, "busiest": 1.25, "idlest": 0.25, "dropped": 0.125},
    ]
    rows[3] |= {"summary": None, "status": "failed", "error": "out of memory, 3 GB asked for"}

    study_report(tmp_path / "study", rows, SWEPT)

    _, table = read(tmp_path / "study")
    assert list(table[0]) == [
        *("model.num_experts", "seed", "id", "run", "status", "loss/mean"),
        *("loss/reviews", "loss/tweets"),
        *("bits_per_byte/mean", "tokens", "tokens_per_second", "train_seconds"),
        *("joules", "joules_per_million_tokens", "joules_per_nat"),
        *("parameters/total", "parameters/active"),
        *("load/busiest", "load/idlest", "load/dropped", "skipped_steps"),
        *("processor", "instruction_sets", "kernels", "commit", "error"),
    ]
    assert [(row["model.num_experts"], row["seed"]) for row in table] == [
        *(("1", "0"), ("1", "1"), ("8", "0"), ("8", "1")),
    ]
    assert float(table[2]["loss/tweets"]) == rows[2]["summary"]["loss"]["tweets"]
    assert int(table[2]["parameters/total"]) == rows[2]["summary"]["parameters"]["total"]
    worst = [table[2][f"load/{name}"] for name in ("busiest", "idlest", "dropped")]
    assert worst == ["1.5", "0.25", "0.125"]
    assert table[0]["load/busiest"] == table[3]["load/busiest"] == ""
    assert table[3]["status"] == "failed"
    assert table[3]["error"] == "out of memory, 3 GB asked for"
    assert table[3]["loss/mean"] == ""
    assert [row["commit"] for row in table] == [rows[0]["summary"]["git"]] * 3 + [""]
    assert {row["processor"] for row in table} == {""}  # of summaries from before it was recorded


def test_a_run_that_was_moved_has_both_machines_in_the_table(
    tmp_path: Path, rows_by_experts: Rows
) -> None:
    rows = rows_by_experts(experts=(1, 8), seeds=1)
    first = {"processor": "Xeon", "instruction_sets": ["avx2", "amx_bf16"], "kernels": "amx"}
    last = {"processor": "EPYC", "instruction_sets": ["avx2"], "kernels": "elementwise"}
    rows[0]["summary"]["machine"] = last | {"earlier": [first]}
    rows[1]["summary"]["machine"] = last

    study_report(tmp_path / "study", rows, SWEPT)

    page, table = read(tmp_path / "study")
    assert [(row["processor"], row["instruction_sets"], row["kernels"]) for row in table] == [
        ("Xeon, then EPYC", "avx2 amx_bf16, then avx2", "amx, then elementwise"),
        ("EPYC", "avx2", "elementwise"),
    ]
    assert "1 on Xeon (amx kernels), then EPYC (elementwise kernels)" in page


def test_differences_are_paired_by_seed_with_students_interval(rows_by_experts: Rows) -> None:
    cells = [StudyRow.of(row) for row in rows_by_experts(seeds=4)]
    losses = {
        experts: [c.loss("reviews") for c in cells if c.values[EXPERTS] == experts]
        for experts in (1, 32)
    }

    last = differences(cells, EXPERTS, 1, "reviews")[-1]

    oracle = stats.ttest_rel(losses[32], losses[1])
    assert last.value == 32
    assert last.num_seeds == 4
    assert last.mean == pytest.approx(np.mean(losses[32]) - np.mean(losses[1]))
    assert last.interval == pytest.approx(oracle.confidence_interval(0.95))


def test_one_seed_has_a_difference_and_no_interval(rows_by_experts: Rows) -> None:
    cells = [StudyRow.of(row) for row in rows_by_experts(seeds=1)]

    found = differences(cells, EXPERTS, 1, "mean")

    assert [one.value for one in found] == [4, 8, 16, 32]
    assert all(one.interval is None for one in found)
    assert interval([1.0]) is None


def test_a_seed_without_its_dense_twin_is_not_compared(rows_by_experts: Rows) -> None:
    rows = rows_by_experts(experts=(1, 8), seeds=3)
    del rows[0]
    cells = [StudyRow.of(row) for row in rows]

    assert differences(cells, EXPERTS, 1, "mean")[0].num_seeds == 2


def test_the_gain_per_doubling_is_the_slope_against_log2(rows_of: Rows) -> None:
    values = [{EXPERTS: e, "seed": s} for e in (1, 4, 16) for s in (0, 1)]
    cells = [
        StudyRow.of(r) for r in rows_of(values, lambda v: 0.02 * math.log2(v[EXPERTS]) + v["seed"])
    ]

    assert gain_per_doubling(cells, "mean") == pytest.approx([-0.02, -0.02])


def test_a_study_of_experts_says_its_finding_with_its_interval(
    tmp_path: Path, rows_by_experts: Rows
) -> None:
    study_report(tmp_path / "study", rows_by_experts(), SWEPT)

    page, _ = read(tmp_path / "study")
    assert "With 32 experts the mean held-out loss differs from the dense twin’s by −0.0" in page
    assert "at equal training tokens and FLOPs per token, 3 seeds" in page
    assert "Each doubling of the experts changes it by −0.01" in page
    for kind in ("png", "svg"):
        assert (tmp_path / "study" / f"loss_by_experts.{kind}").stat().st_size > 1000
        assert (tmp_path / "study" / f"difference_by_experts.{kind}").stat().st_size > 1000


def test_unequal_tokens_are_not_called_equal(tmp_path: Path, rows_by_experts: Rows) -> None:
    rows = rows_by_experts(experts=(1, 8), seeds=1)
    rows[0]["summary"]["tokens"] *= 2

    study_report(tmp_path / "study", rows, SWEPT)

    assert "equal training tokens" not in read(tmp_path / "study")[0]


def test_failed_and_absent_cells_are_named(tmp_path: Path, rows_by_experts: Rows) -> None:
    rows = rows_by_experts(experts=(1, 8), seeds=2)
    rows[2] |= {"summary": None, "status": "failed", "error": "no <space> left"}
    del rows[3]

    study_report(tmp_path / "study", rows, SWEPT)

    page, _ = read(tmp_path / "study")
    assert "no &lt;space&gt; left" in page
    assert "Not in the study: experts 8, seed 1." in page
    assert "3 runs, over experts (2) and seed (2): 2 done, 1 failed." in page


def test_every_run_is_linked_to_its_page(tmp_path: Path, rows_by_experts: Rows) -> None:
    runs = tmp_path / "runs"
    rows = rows_by_experts(experts=(1, 8), seeds=1)
    rows[1] |= {"summary": None, "status": "failed", "error": "x"}
    (runs / rows[0]["run"]).mkdir(parents=True)
    (runs / rows[0]["run"] / "report.html").touch()

    study_report(runs / "studies" / "mine", rows, SWEPT)

    page, _ = read(runs / "studies" / "mine")
    links = re.findall(r'href="([^"#]*report\.html)"', page)
    assert links == [f"../../{rows[0]['run']}/report.html"]
    assert (runs / "studies" / "mine" / links[0]).exists()


def test_words_are_compared_domain_by_domain(tmp_path: Path, rows_of: Rows) -> None:
    values = [
        {"data": kind, "seed": seed} for kind in ("filtered", "unfiltered") for seed in (0, 1)
    ]
    rows = rows_of(values, lambda v: 0.1 + v["seed"] / 100 if v["data"] == "filtered" else 0)

    study_report(tmp_path / "study", rows, ["data", "seed"])

    page, _ = read(tmp_path / "study")
    assert "Mean held-out loss with data filtered against unfiltered: −0.105 nats" in page
    assert "Difference to data unfiltered, tweets: filtered: −0.105." in page
    assert (tmp_path / "study" / "difference_by_data.png").exists()


def test_a_study_compares_what_it_says_rather_than_the_experts(
    tmp_path: Path, rows_of: Rows
) -> None:
    values = [
        {"data": kind, EXPERTS: experts, "seed": seed}
        for kind in ("filtered", "unfiltered")
        for experts in (1, 16)
        for seed in (0, 1)
    ]
    rows = rows_of(values, lambda v: 0.1 + v["seed"] / 100 if v["data"] == "unfiltered" else 0)
    study = StudyConfig(compares="data", baseline="filtered", budget="tokens")

    study_report(tmp_path / "study", rows, ["data", EXPERTS, "seed"], study)

    page, _ = read(tmp_path / "study")
    words = "Mean held-out loss with data unfiltered against filtered at equal training tokens"
    assert page.count(f"{words}: −0.105 nats") == 2  # dense and sparse
    assert "(num_experts 16)" in page


@pytest.mark.parametrize(
    "values",
    [
        [{"optimizer.learning_rate": rate} for rate in (0.003, 0.012, 0.024)],
        [{"training.batch_size": size, "optimizer": o} for size in (8, 16) for o in ("a", "b")],
        [{"data.filter.calibrate": flag} for flag in (True, False)],
        [{"data.corpus.sources": names} for names in (["speeches"], ["speeches", "tweets"])],
        [{"model": name} for name in ("glam_tiny", "$x$", "<b>", "a_long_name_of_a_model")],
        [{"seed": seed} for seed in range(3)],
        [{EXPERTS: 8}],
        [{EXPERTS: e, "data": d} for e in (4, 8) for d in ("filtered", "unfiltered")],
    ],
)
def test_whatever_is_swept_has_a_page_and_a_figure(
    tmp_path: Path, rows_of: Rows, values: list[dict[str, Any]]
) -> None:
    study_report(tmp_path / "study", rows_of(values, lambda _: 0.0), list(values[0]))

    page, table = read(tmp_path / "study")
    assert len(table) == len(values)
    assert "<svg" in page
    assert "<b>" not in page
    assert list((tmp_path / "study").glob("loss_by_*.png"))


def test_a_run_that_goes_on_says_how_far_it_is_and_the_page_loads_itself_anew(
    tmp_path: Path, rows_by_experts: Rows
) -> None:
    rows = rows_by_experts((1, 8), seeds=1)
    study_report(tmp_path / "done", rows, SWEPT)
    progress = {"stage": "train", "done": 30, "total": 120}
    rows[1] |= {"summary": None, "status": "unfinished", "progress": progress}

    study_report(tmp_path / "study", rows, SWEPT)

    refresh = '<meta http-equiv="refresh"'
    assert ">train 25\N{NO-BREAK SPACE}%<" in read(tmp_path / "study")[0]
    assert refresh in read(tmp_path / "study")[0]
    assert refresh not in read(tmp_path / "done")[0]


def test_the_table_sorts_by_numbers_not_by_their_texts(
    tmp_path: Path, rows_by_experts: Rows
) -> None:
    rows = rows_by_experts((1, 8), seeds=1)

    study_report(tmp_path / "study", rows, SWEPT)

    page, _ = read(tmp_path / "study")
    for row in rows:
        seconds = row["summary"]["train_seconds"]
        assert f'data-value="{seconds}">' in page


def test_three_seeds_bring_intervals_and_two_an_apology(
    tmp_path: Path, rows_by_experts: Rows
) -> None:
    for seeds in (2, 3):
        study_report(tmp_path / f"study{seeds}", rows_by_experts((1, 8), seeds=seeds), SWEPT)
    two, three = (read(tmp_path / f"study{seeds}")[0] for seeds in (2, 3))
    mean, leaving = "intervals of the mean, over the seeds", "may leave its panel"
    assert (mean in two, leaving in two) == (False, True)
    assert (mean in three, leaving in three) == (True, False)


def test_without_a_pair_there_is_no_figure_of_differences(
    tmp_path: Path, rows_by_experts: Rows
) -> None:
    rows = rows_by_experts((1, 8), seeds=2)
    study_report(tmp_path / "study", [rows[0], rows[3]], SWEPT)

    assert "Difference to the dense twin" not in read(tmp_path / "study")[0]


def test_a_study_without_a_finished_run_has_its_table(
    tmp_path: Path, rows_by_experts: Rows
) -> None:
    rows = [
        row | {"summary": None, "status": "unfinished"} for row in rows_by_experts((1, 8), seeds=1)
    ]

    study_report(tmp_path / "study", rows, SWEPT)

    page, table = read(tmp_path / "study")
    assert [row["status"] for row in table] == ["unfinished"] * 2
    assert "2 unfinished" in page


def test_a_diverged_cell_is_no_part_of_a_mean(tmp_path: Path, rows_by_experts: Rows) -> None:
    rows = rows_by_experts(experts=(1, 8), seeds=2)
    rows[3]["summary"] |= {"status": "diverged", "loss": {"mean": None, "tweets": float("nan")}}
    rows[3]["status"] = "diverged"

    study_report(tmp_path / "study", rows, SWEPT)

    found = differences([StudyRow.of(row) for row in rows], EXPERTS, 1, "mean")
    assert found[0].num_seeds == 1
    assert "1 diverged" in read(tmp_path / "study")[0]


def test_the_figures_run_along_what_takes_several_values(rows_of: Rows) -> None:
    values = [{EXPERTS: 8, "optimizer.learning_rate": rate, "seed": 0} for rate in (0.1, 0.2)]
    cells = [StudyRow.of(row) for row in rows_of(values, lambda _: 0.0)]

    assert axis_key(list(values[0]), cells) == "optimizer.learning_rate"
    assert axis_key(["seed"], cells) == "seed"
    assert axis_key([], cells) is None
    assert baseline("optimizer.learning_rate", cells) is None


def test_the_same_rows_make_the_same_files(tmp_path: Path, rows_by_experts: Rows) -> None:
    rows = rows_by_experts(experts=(1, 8), seeds=2)

    study_report(tmp_path / "a" / "study", rows, SWEPT)
    study_report(tmp_path / "b" / "study", rows, SWEPT)

    for file in (tmp_path / "a" / "study").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "study" / file.name).read_bytes(), file.name
