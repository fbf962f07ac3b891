"""Curves of a study's runs, and which text goes to which experts in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.analysis.paired import EXPERTS, StudyRow
from glam.reporting import study_curves, study_experts, study_report
from glam.reporting.study_curves import Group, groups_of, measurements
from glam.runs.record import Metrics, Record

RunWriter = Callable[..., Path]
Study = tuple[list[dict[str, Any]], list[StudyRow], dict[str, Record]]


@pytest.fixture
def study(write_run: RunWriter) -> Callable[..., Study]:
    """Rows, cells and records of finished runs that lie in folders."""

    def make(experts: tuple[int, ...] = (1, 8), seeds: int = 2) -> Study:
        rows: list[dict[str, Any]] = []
        records: dict[str, Record] = {}
        for count in experts:
            for seed in range(seeds):
                run = write_run(experts=count, seed=seed)
                record = records[run.name] = Record.read(run)
                values = {EXPERTS: count, "seed": seed}
                done = {"status": "done", "summary": record.summary}
                rows.append({"run": run.name, "values": values, **done})
        return rows, [StudyRow.of(row) for row in rows], records

    return make


def test_what_a_measurement_cost_stands_beside_its_loss(write_run: RunWriter) -> None:
    record = Record.read(write_run(experts=8))

    found = measurements(record)

    tokens, losses = record.metrics.curve("held_out/mean")
    np.testing.assert_array_equal(found["tokens"], tokens)
    np.testing.assert_array_equal(found["held_out/mean"], losses)
    forward = record.summary["flops_per_token"]["forward"]
    np.testing.assert_allclose(found["flops"], 3 * forward * tokens)
    per_token = found["joules"][-1] / tokens[-1]
    np.testing.assert_allclose(found["joules"], per_token * tokens)


def test_a_strong_line_is_the_mean_of_the_seeds_point_by_point() -> None:
    def run(tokens: list[float], seconds: list[float], losses: list[float]) -> dict[str, Any]:
        columns = {"tokens": tokens, "train_seconds": seconds, "held_out/mean": losses}
        return {name: np.array(values) for name, values in columns.items()}

    runs = [run([1, 2], [10, 20], [5, 4]), run([1, 2], [30, 40], [3, 2])]

    mean = Group(label="8", runs=runs).mean("train_seconds")
    assert mean is not None
    np.testing.assert_allclose(mean, ([20, 30], [4, 3]))
    remote = [*runs, run([1, 3], [10, 20], [5, 4])]
    assert Group(label="8", runs=remote).mean("train_seconds") is None


def test_runs_that_differ_in_their_seed_alone_are_one_group(study: Callable[..., Study]) -> None:
    _, cells, records = study(experts=(1, 8, 16), seeds=2)

    groups = groups_of(cells, records, EXPERTS)

    assert [(group.label, len(group.runs)) for group in groups] == [("1", 2), ("8", 2), ("16", 2)]


def test_a_page_has_the_loss_by_tokens_flops_seconds_and_joules(
    study: Callable[..., Study], tmp_path: Path
) -> None:
    rows, _, _ = study()

    study_report(tmp_path / "runs" / "studies" / "mine", rows, [EXPERTS, "seed"])

    page = (tmp_path / "runs" / "studies" / "mine" / "study.html").read_text(encoding="utf-8")
    for axis in ("training tokens", "training FLOPs", "seconds of training", "joules of training"):
        assert f"Mean held-out loss by {axis}; at the end 1: " in page


def test_an_axis_that_nobody_measured_has_no_panel(study: Callable[..., Study]) -> None:
    _, cells, records = study(seeds=1)
    for record in records.values():
        del record.metrics.columns["joules"]

    section = study_curves.section(cells, records, EXPERTS)

    assert section is not None
    assert len(section["plots"]) == 3


def test_a_run_without_measurements_has_no_curve(write_run: RunWriter) -> None:
    run = write_run(experts=8)
    (run / "metrics.csv").write_text("step,tokens,held_out/mean\n")

    assert measurements(Record.read(run)) == {}
    assert Metrics.read(run / "metrics.csv").columns["tokens"].size == 0


def test_more_combinations_than_colours_are_thinned_and_said(study: Callable[..., Study]) -> None:
    _, cells, records = study(experts=(1, 2, 4, 8, 16, 32, 64, 128), seeds=1)

    section = study_curves.section(cells, records, EXPERTS)

    assert section is not None
    assert "7 of the combinations are drawn" in section["caption"]


def test_every_sparse_model_has_a_map_of_domains_and_experts(study: Callable[..., Study]) -> None:
    _, cells, records = study(experts=(1, 8, 16), seeds=2)

    section = study_experts.section(cells, records, EXPERTS)

    assert section is not None
    told = [plot.svg for plot in section["plots"]]
    assert ["8 experts: load of the experts of layer 3" in svg for svg in told] == [True, False]
    assert ["16 experts: load of the experts of layer 3" in svg for svg in told] == [False, True]
    assert "(8 experts), " in section["caption"]


def test_dense_models_have_no_map(study: Callable[..., Study]) -> None:
    _, cells, records = study(experts=(1,))

    assert study_experts.section(cells, records, EXPERTS) is None
