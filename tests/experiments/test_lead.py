"""The lead of sixteen experts over the dense twin, from tables."""

import itertools

import numpy as np
import pytest

from experiments.lead import __main__ as lead
from experiments.scaling_law.tables import COLUMNS

HEAD = ",".join(["id", "status", *COLUMNS])
SIZES, TOKENS = (2e4, 8e4, 3.2e5), (2.5e5, 1e6, 4e6)


def written(file, *, slope=0.01, by_size=0.0, seeds=3, noise=0.001, sizes=SIZES, name="a"):
    """The lead is `slope` for a doubling of tokens per parameter and `by_size` for one of size."""
    random, lines = np.random.default_rng(0), [HEAD]
    for active, tokens, experts, seed in itertools.product(sizes, TOKENS, (1, 4, 16), range(seeds)):
        gain = 0.02 + slope * np.log2(tokens / active) + by_size * np.log2(active / 2e4)
        loss = 5 + seed - gain * (experts == 16) + random.normal(0, noise)
        run = f"{name}{active}{tokens}{experts}{seed}"
        lines.append(f"{run},done,{active + experts},{experts},{tokens},{loss},{seed}")
    file.write_text("\n".join(lines))
    return file


def test_the_slopes_are_those_of_the_leads(tmp_path):
    found = lead.points([written(tmp_path / "a.csv", by_size=-0.004)])
    assert len(found) == 9
    ratio, size = lead.trends(found, samples=400)
    assert ratio.low < 0.01 < ratio.high
    assert size.low < -0.004 < size.high
    assert ratio.high - ratio.low < 0.002


def test_a_run_of_two_tables_counts_once(tmp_path):
    one = written(tmp_path / "a.csv")
    more = written(tmp_path / "b.csv", sizes=(*SIZES, 1.28e6))
    tables = [point.table for point in lead.points([one, more])]
    assert [tables.count(f"{tmp_path.name}/{name}") for name in "ab"] == [9, 3]


def test_the_table_the_figure_and_the_csv_hold_every_cell(tmp_path, monkeypatch, capsys):
    file = written(tmp_path / "a.csv")
    monkeypatch.setattr(lead, "HERE", tmp_path)
    assert lead.main([str(file)]) == 0
    said = capsys.readouterr().out
    assert said.count(" 3 | ") == 9
    assert "Per doubling of tokens per parameter: +0.0" in said
    assert len((tmp_path / "leads.csv").read_text().splitlines()) == 10
    assert {"leads.png", "leads.svg"} <= {one.name for one in tmp_path.iterdir()}


def test_too_few_cells_have_no_slope(tmp_path):
    assert lead.trends(lead.points([written(tmp_path / "a.csv", sizes=SIZES[:1])])) == []


def test_tables_without_a_pair_are_refused(tmp_path, capsys):
    file = tmp_path / "a.csv"
    file.write_text(f"{HEAD}\nx,done,100,16,1000,4.0,0\n")
    with pytest.raises(SystemExit) as stopped:
        lead.points([file])
    assert stopped.value.code == 2
    assert "16 experts in pairs" in capsys.readouterr().err


def test_the_page_has_the_numbers_of_the_committed_tables():
    found = lead.points([lead.STUDIES / name for name in lead.TABLES])
    page = (lead.HERE / "README.md").read_text()
    table, _, words = lead.markdown(found).partition("\n\n")
    assert table in page
    for one in lead.trends(found):
        for number in (one.value, one.low, one.high):
            assert f"{number:.4f}".replace("-", "−") in page, words
