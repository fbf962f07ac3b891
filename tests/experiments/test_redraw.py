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


def test_a_figure_is_written_beside_its_table_and_no_other_or_refused_by_name(tmp_path, capsys):
    table = tmp_path / "study.csv"
    head, *lines = TABLE.read_text().splitlines()
    table.write_text("\n".join([head, *(line for line in lines if line.split(",")[1] == "0")]))
    written = redraw(table, ["loss_by_experts"])
    assert sorted(file.name for file in written) == ["loss_by_experts.png", "loss_by_experts.svg"]
    assert {file.name for file in tmp_path.iterdir()} == {f.name for f in written} | {"study.csv"}
    with pytest.raises(SystemExit):
        redraw(table, ["pie"])
    assert "loss_by_experts" in capsys.readouterr().err
