"""A committed table is drawn again, as a study's page draws it."""

from pathlib import Path

import pytest

from experiments.redraw import main, redraw, rows
from experiments.tables import finished, swept

TABLE = Path(__file__).resolve().parents[2] / "experiments" / "first_grid" / "five_seeds.csv"


def test_rows_have_the_swept_values_and_the_losses_of_the_table(tmp_path):
    table = tmp_path / "study.csv"
    head = "model.num_experts,seed,id,run,status,loss/mean"
    table.write_text(f"{head}\n1,0,x,a,done,4.5\n8,0,y,b,done,4.25\n")
    first, second = rows(finished(table), swept(finished(table)))
    assert first["values"] == {"model.num_experts": 1, "seed": 0}
    assert first["summary"]["loss"]["mean"] == 4.5
    assert second["summary"]["loss"]["mean"] == 4.25


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


def test_figures_are_of_what_the_study_compares_and_of_its_tasks_too(tmp_path):
    table = tmp_path / "study.csv"
    lines = ["model.num_experts,data,seed,id,run,status,loss/mean,tasks/embedded/domain"]
    for experts in (1, 16):
        for place, data in enumerate(("unfiltered", "filtered")):
            for seed in range(2):
                name = f"{experts}{data}{seed}"
                numbers = f"{4.5 - place / 10 + seed / 100},{0.5 + place / 10}"
                lines.append(f"{experts},{data},{seed},{name},{name},done,{numbers}")
    table.write_text("\n".join(lines))
    names = ("difference_by_data", "tasks_by_data")
    main([str(table), *names, "compares=data", "baseline=unfiltered"])
    assert {file.stem for file in tmp_path.iterdir()} == {*names, "study"}
    with pytest.raises(SystemExit):  # by the number of experts, where nothing is said
        main([str(table), *names])
    with pytest.raises(SystemExit):
        main([str(table), "compare=data"])
