"""The law of a committed table, fitted anew."""

import csv
import json
import shutil

import pytest
from hydra import compose, initialize_config_dir

from experiments.scaling_law.refit import (
    cells,
    cells_of,
    constants,
    forms,
    forward,
    held_out,
    main,
)
from experiments.scaling_law.tables import KNOWN
from glam.composition.overrides import CONF
from glam.composition.schema import register, to_run_config


def test_flops_are_those_of_the_models_files():
    register()
    for model, experts in (("glam_nano", 1), ("glam_mini", 64)):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("config", [f"model={model}", f"model.num_experts={experts}"])
        assert forward(model, experts) == to_run_config(composed).flops_per_token


def test_a_table_gets_its_law_and_the_page_shows_it(tmp_path, capsys):
    file = tmp_path / "results.csv"
    shutil.copy(KNOWN, file)
    assert main([str(file)]) == 0
    told = json.loads((tmp_path / "law.json").read_text())
    assert told["num_runs"] == 96
    assert {"law.png", "law_residuals.svg"} <= {one.name for one in tmp_path.iterdir()}
    said, page = capsys.readouterr().out, (KNOWN.parent / "README.md").read_text()
    for part in (forms, held_out, constants, cells):
        table = "\n".join(part(told)).replace("\xa0", " ")
        assert table in said
        assert table in page


def test_a_model_of_another_shape_is_refused(tmp_path, capsys):
    with KNOWN.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    rows[0]["model"] = "glam_huge"
    file = tmp_path / "results.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(SystemExit):
        cells_of(file)
    assert "glam_huge" in capsys.readouterr().err
