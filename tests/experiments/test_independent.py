"""Our fit beside that of a package, which a script stands in for."""

import csv
import json
import sys

import pytest

from experiments.scaling_law import independent

THEIRS = {
    "constants": {"E": 1.0}, "intervals": {"E": [-3.0, 2.0]}, "notes": ["lack_of_fit"],
    "predictions": [[4.2, 4.4, 4.6]],
}  # fmt: skip


def test_each_number_of_experts_and_formula_has_both_predictions(tmp_path, monkeypatch):
    stand_in, seen = tmp_path / "python", tmp_path / "seen"
    stand_in.write_text(f"#!/bin/sh\ncat $3 $4 >> {seen}\necho '{json.dumps(THEIRS)}'\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(independent, "HERE", tmp_path)
    assert independent.main([str(stand_in)]) == 0
    with (tmp_path / "independent.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["experts"], row["form"]) for row in rows] == [
        (experts, form) for experts in ("1", "16") for form in ("chinchilla", "power_mean")
    ]
    for row in rows:
        assert (row["theirs"], row["their_floor_low"]) == ("4.4000", "-3.0000")
        assert float(row["our_low"]) < float(row["ours"]) < float(row["our_high"])
        assert row["notes"] == "lack_of_fit"
    # Four calls, each with 22 runs and the one point that they do not hold.
    lines = seen.read_text().splitlines()
    assert len(lines) == 4 * (1 + 22 + 1 + 1)
    held = [line for line in lines if ",296000.0,2000896.0," in line]
    assert len(held) == 2


@pytest.mark.parametrize("arguments", [[], ["/no/python"], [sys.executable]])
def test_an_environment_without_the_package_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        independent.main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip()
