"""The funnel in a terminal and in sentences."""

from io import StringIO

from rich.console import Console

from glam.reporting import funnel


def test_the_terminal_has_a_row_for_each_step_and_says_what_was_set_aside(funnel_rows):
    console = Console(file=StringIO(), width=120)
    funnel.show(funnel_rows, console)
    assert isinstance(console.file, StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines[1][1:] == ["read", "1,000", "2.00", "M", "2.0", "–"]
    assert lines[2] == ["distinct", "900", "1.50", "M", "1.5", "75.0", "%"]
    assert " ".join(lines[3]) == "web: 1,203 bad records set aside (3 not JSON, 1,200 empty)"
    assert " ".join(lines[4]) == "web: 60 exact and 40 near copies left out"


def test_a_funnel_of_an_older_run_has_no_such_sentences(funnel_rows):
    rows = [
        {**row, "megabytes": None, "bad_records": None, "exact_copies": 0} for row in funnel_rows
    ]
    rows[1]["near_copies"] = 0
    assert funnel.notes(rows) == []
    assert funnel.amounts(funnel.sources(rows)) == ["characters"]


def test_a_figure_has_room_beside_a_name_of_any_length(funnel_rows):
    """matplotlib would warn, and draw no bars."""
    rows = [{**row, "source": "x" * 100} for row in funnel_rows]
    [figure] = funnel.figures(funnel.sources(rows))
    assert "x" * 40 in figure.svg
