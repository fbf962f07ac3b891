"""Losses at equal seconds, and from when on sparse is ahead of dense."""

import csv
import math

import pytest

from experiments.energy import compare as energy
from experiments.equal_time import compare
from experiments.means import ALL, TRAINED_ON
from glam.data.sources import EMBEDDED

BUDGETS, SEEDS = (20, 60, 180), range(5)
NAMES = [source.name for source in EMBEDDED]


def dense_loss(seconds: float, seed: int) -> float:
    return 6 - 0.3 * math.log(seconds) + 0.1 * seed


@pytest.fixture
def table(tmp_path):
    """Sixteen experts lead by log(seconds / 60) / 10, whatever the seed; eight lag everywhere."""
    lead = {1: lambda _: 0.0, 8: lambda _: -0.05, 16: lambda seconds: math.log(seconds / 60) / 10}
    rows = [
        {
            "seed": seed, "model.num_experts": experts, "training.seconds": seconds, "id": "x",
            "run": "r", "status": "done", "tokens": 1000 * seconds, "tokens_per_second": 1000.0,
            "loss/mean": dense_loss(seconds, seed) - lead[experts](seconds),
            **{f"loss/{name}": dense_loss(seconds, seed) for name in NAMES},
        }
        for seconds in BUDGETS for experts in lead for seed in SEEDS
    ]  # fmt: skip
    file = tmp_path / "results.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_differences_are_to_the_dense_twin_of_the_same_seed(table):
    runs = compare.read(table)
    assert compare.differences(runs, 180, 16, ALL) == pytest.approx([-math.log(3) / 10] * 5)
    assert compare.differences(runs, 20, 8, ALL) == pytest.approx([0.05] * 5)
    assert compare.differences(runs, 20, 8, TRAINED_ON) == pytest.approx([0.0] * 5)


def test_seconds_are_those_that_the_runs_needed_and_not_those_that_were_promised(table):
    """Sixteen experts got the tokens of the timing, and took a tenth longer for them."""
    runs = [
        run._replace(throughput=run.throughput / 1.1) if run.experts == 16 else run
        for run in compare.read(table)
    ]
    as_promised = -math.log(3) / 10
    slope = -0.4  # of its loss, a factor e of seconds
    assert compare.differences(runs, 180, 16, ALL) == pytest.approx(
        [as_promised - slope * math.log(1.1)] * 5
    )


def test_sparse_is_ahead_from_where_the_line_between_two_budgets_crosses_zero(table):
    runs = compare.read(table)
    runs = [
        run._replace(losses={ALL: run.losses[ALL] + (0.02 if run.experts == 16 else 0)})
        for run in runs
    ]
    expected = 60 * math.exp(0.2)  # where the lead is 0.02
    assert compare.overtakes(runs, 16, ALL) == f"{expected:.0f} s"
    assert compare.overtakes(runs, 8, ALL) == "over 180 s"


def test_a_lead_at_every_budget_is_from_before_the_least(table):
    runs = [run for run in compare.read(table) if run.budget == 180]
    assert compare.overtakes(runs, 16, ALL) == "under 180 s"


def test_the_command_prints_the_tables_and_draws_the_figure(table, capsys):
    assert compare.main([str(table)]) == 0
    said = capsys.readouterr().out
    assert "| all domains | 16 | +0.110 (+0.110, +0.110) |" in said
    assert "| 16 | 1.0 thousand | 1.00 | 180 s |" in said
    assert (table.parent / "loss_by_seconds.png").stat().st_size > 1000


def test_a_table_without_a_dense_twin_is_one_line(table, capsys):
    kept = [line for line in table.read_text().splitlines() if ",1," not in line]
    table.write_text("\n".join(kept))
    with pytest.raises(SystemExit) as refused:
        compare.main([str(table)])
    assert refused.value.code == 2
    assert "has no dense twin" in capsys.readouterr().err


def test_energy_is_the_share_of_seconds_to_the_worse_of_both_losses(table):
    """The sparse curve of 16 experts is 0.4 a factor e, that of the dense twin 0.3."""
    made = energy.pairs(compare.read(table))
    ratios = [pair.ratio for pair in made if (pair.over, pair.experts) == (ALL, 16)]
    # To what the dense twin has after 180 s, which sparse has from there on a log(3) / 10 less.
    assert ratios == pytest.approx([math.exp(-math.log(3) / 10 / 0.4)] * len(SEEDS))
    assert {pair.ratio for pair in made if pair.over == TRAINED_ON} == {1.0}
