"""A committed table is drawn again, as a study's page draws it."""

from pathlib import Path

import pytest

from experiments.redraw import redraw, rows
from experiments.tables import finished, swept

TABLE = Path(__file__).resolve().parents[2] / "experiments" / "first_grid" / "five_seeds.csv"


def test_rows_have_the_swept_values_and_the_losses_of_the_table():
    first = rows(finished(TABLE), swept(finished(TABLE)))[0]
    assert first["values"] == {"model.num_experts": 1, "seed": 0}
    assert first["summary"]["loss"]["mean"] == pytest.approx(4.1033, abs=1e-4)


def test_a_figure_is_written_beside_its_table_and_no_other(tmp_path):
    table = tmp_path / "study.csv"
    table.write_text(TABLE.read_text())
    written = redraw(table, ["difference_by_experts"])
    assert sorted(file.name for file in written) == [
        "difference_by_experts.png",
        "difference_by_experts.svg",
    ]
    assert {file.name for file in tmp_path.iterdir()} == {f.name for f in written} | {"study.csv"}


def test_an_unknown_figure_is_refused_with_those_that_there_are(tmp_path, capsys):
    table = tmp_path / "study.csv"
    table.write_text(TABLE.read_text())
    with pytest.raises(SystemExit):
        redraw(table, ["pie"])
    assert "difference_by_experts" in capsys.readouterr().err
