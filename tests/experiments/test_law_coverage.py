"""The coverage of a law's intervals, on simulated laws."""

import csv

import numpy as np
import pytest

from experiments.scaling_law import coverage
from experiments.scaling_law.coverage import Noise, main, moved, noise_of, rows, simulations
from experiments.scaling_law.grid import planned
from experiments.scaling_law.tables import known
from glam.analysis import scaling_law
from glam.analysis.forecast import split_of
from glam.analysis.law_forms import FORMS
from glam.analysis.scaling_law import fit
from glam.analysis.wild_bootstrap import Wild, wild


@pytest.fixture(scope="module")
def kaplan():
    return fit(known(), "kaplan", samples=50)


def shares(law, noise, count=24):
    found = list(simulations(law, count, 100, noise))
    return {row["what"]: float(row["coverage"]) for row in rows(law.form, found)}


def test_nine_in_ten_intervals_hold_and_those_of_wrong_bootstraps_do_not(kaplan, monkeypatch):
    """At 24 laws, whose held-out cells as one have an error of some 0.02, and constants of 0.06
    each. The noise of cells is larger than that of runs, so that mistaking one for it shows."""
    noise = Noise(run=0.003, cell=0.006)
    right = shares(kaplan, noise)
    assert set(right) == {"alpha", "beta", "gamma", "c", "log_p", "held-out cells"}
    assert 0.82 <= right["held-out cells"] <= 0.97
    assert 0.8 <= np.mean(list(right.values())) <= 0.97

    def independent(residuals, columns, weight, samples, random):
        """As if runs were independent draws: the noise that seeds of a cell differ by."""
        right = wild(residuals, columns, weight, samples, random)
        less = noise.run / np.sqrt(2) / np.hypot(noise.run / np.sqrt(2), noise.cell)
        return Wild(right.noise * less, right.spread * less, right.degrees_of_freedom)

    monkeypatch.setattr(scaling_law, "wild", independent)
    wrong = shares(kaplan, noise)
    assert wrong["held-out cells"] < 0.7
    assert np.mean(list(wrong.values())) < 0.7


def test_a_law_that_is_moved_to_another_centre_has_the_same_losses():
    for form in FORMS:
        law, grid = fit(known(), form, samples=5), planned()
        there = moved(law, grid)
        assert there.centre != law.centre
        places = grid.active, grid.experts, grid.tokens
        np.testing.assert_allclose(there.predict(*places)[1], law.predict(*places)[1], rtol=1e-10)


def test_noise_is_told_apart_into_that_of_runs_and_of_cells(kaplan):
    noise = noise_of([kaplan], known())
    assert noise.run == kaplan.run_noise
    each = kaplan.noise**2 / 2
    assert noise.run**2 / 2 + noise.cell**2 == pytest.approx(each)


def test_a_table_is_written_and_what_there_is_not_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(coverage, "HERE", tmp_path)
    assert main(["kaplan", "simulations=2", "samples=30"]) == 0
    with (tmp_path / "coverage.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert {row["form"] for row in told} == {"kaplan"}
    assert told[-1]["what"] == "held-out cells"
    assert {row["simulations"] for row in told} == {"2"}
    for wrong in (["chinchila"], ["simulations=many"], ["times=3"]):
        with pytest.raises(SystemExit):
            main(wrong)
    assert "there are chinchilla, kaplan" in capsys.readouterr().err


def test_the_committed_shares_are_those_of_the_page():
    with (coverage.HERE / "coverage.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    page = (coverage.HERE / "README.md").read_text()
    assert "\n".join(coverage.markdown(told)) in page
    for row in told:
        error = 2 * float(row["error"])  # of a share of 200 laws
        assert 0.85 - error <= float(row["coverage"]) <= 0.95 + error
    assert split_of(planned()).kept.sum() == 96
