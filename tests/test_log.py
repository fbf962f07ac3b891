"""Lines for the person at the terminal: to stderr, plain where nobody looks at colours."""

import logging

import pytest

from glam.log import configure, log


@pytest.fixture(autouse=True)
def as_before():
    level = log.level
    yield
    log.setLevel(level)


def test_a_warning_says_that_it_is_one_and_stdout_stays_empty(capsys):
    log.info("3 cells are done")
    log.warning("the disk is nearly full")
    assert capsys.readouterr() == ("", "3 cells are done\nwarning: the disk is nearly full\n")


@pytest.mark.parametrize(
    ("level", "heard"),
    [("debug", ["d", "i", "warning: w"]), ("info", ["i", "warning: w"]), ("error", [])],
)
def test_lines_below_the_level_are_left_out(capsys, level, heard):
    configure(level)
    for say, line in ((log.debug, "d"), (log.info, "i"), (log.warning, "w")):
        say(line)
    assert capsys.readouterr().err.splitlines() == heard


def test_configured_twice_each_line_comes_once(capsys):
    configure()
    configure()
    log.info("once")
    assert capsys.readouterr().err == "once\n"
    assert log.propagate is False
    assert logging.getLogger("glam") is log
