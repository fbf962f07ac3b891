"""A size beyond the fit, on runs whose law is known."""

import itertools

import numpy as np
import pytest

from experiments.scaling_law.beyond import MODEL, rows
from experiments.scaling_law.tables import COLUMNS

HEAD = ",".join(["model", "id", "status", *COLUMNS])


def written(file, cells):
    random = np.random.default_rng(0)
    lines = [HEAD]
    for (model, active), experts, tokens, seed in cells:
        loss = 1.8 + 15 * (active * experts**0.3) ** -0.3 + 40 * tokens**-0.35
        loss *= np.exp(random.normal(0, 0.002))
        lines.append(f"{model},x,done,{active},{experts},{tokens},{loss},{seed}")
    file.write_text("\n".join(lines))
    return file


def test_a_size_that_follows_the_law_of_the_smaller_ones_lies_inside_its_interval(tmp_path):
    sizes = [("a", 1e5), ("b", 4e5), ("c", 1.6e6)]
    tokens = (1e6, 4e6, 1.6e7, 6.4e7)
    known = written(tmp_path / "k", itertools.product(sizes, (1, 4, 16), tokens, range(2)))
    larger = [("c", 1.6e6), (MODEL, 6.4e6)]
    new = written(tmp_path / "n", itertools.product(larger, (1, 16), [6.4e7], range(2)))
    found = [row for row in rows(known, new) if row["form"] == "chinchilla"]
    assert [row["experts"] for row in found] == ["1", "16"]
    for row in found:
        true = 1.8 + 15 * (6.4e6 * int(row["experts"]) ** 0.3) ** -0.3 + 40 * 6.4e7**-0.35
        assert abs(float(row["measured"]) - true) < 0.01
        assert row["where"] == "inside"


def test_a_size_that_the_law_has_is_refused(tmp_path, capsys):
    grid = itertools.product([("a", 1e5), (MODEL, 4e5)], (1, 4), (1e6, 4e6), range(2))
    known = written(tmp_path / "k", grid)
    with pytest.raises(SystemExit):
        list(rows(known, known))
    assert "no size that its law has not seen" in capsys.readouterr().err
