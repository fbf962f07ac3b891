"""The tables of the embedded text: what the page says is of the sources, and of the rows."""

import csv

import pytest

from experiments.corpora.embedded import HERE, PAGE, ROLES, replaced
from glam.data import EMBEDDED


def rows(name):
    with (HERE / f"embedded_{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["sources", "epochs"])
def test_the_page_shows_what_was_counted(name):
    page = PAGE.read_text()
    assert replaced(page, name, rows(name)) == page


def test_every_source_stands_there_with_its_package_role_and_licence():
    *counted, whole = rows("sources")
    told = ("source", "package", "component", "role", "licence as stated")
    assert [tuple(row[name] for name in told) for row in counted] == [
        (row.name, f"`{row.requirement}`", row.component, ROLES[row.role], row.license)
        for row in EMBEDDED
    ]
    tokens = sum(float(row["M tokens"]) for row in counted)
    assert float(whole["M tokens"]) == pytest.approx(tokens, abs=0.05)


def test_the_shares_of_the_components_are_the_papers():
    shares = {row["component"]: row["share of the tokens"] for row in rows("epochs")}
    assert shares == {"webpages": "46.7%", "conversations": "31.1%", "books": "22.2%"}
