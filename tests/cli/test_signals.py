"""Whoever asks a command to stop, and whenever: one line, and the status that names the signal."""

import os
import signal

import pytest

from glam import cli
from glam.cli.signals import stoppable
from glam.errors import STOPPING, Stopped


@pytest.mark.parametrize(("number", "status"), [("TERM", 143), ("HUP", 129), ("INT", 130)])
def test_a_signal_in_the_preparation_ends_in_one_line(number, status, monkeypatch, capsys):
    sent = signal.Signals[f"SIG{number}"]
    before = signal.getsignal(sent)
    monkeypatch.setattr(cli, "_run", lambda arguments: os.kill(os.getpid(), sent))
    assert cli.main([]) == status
    assert capsys.readouterr().err == "stopped; the same command resumes where it was cut off\n"
    assert signal.getsignal(sent) == before


def test_what_answers_the_first_signal_is_not_cut_short_by_the_second():
    """A closed terminal sends SIGHUP to the process and to its group."""
    saved = []
    with stoppable():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        except Stopped:
            for number in STOPPING:
                os.kill(os.getpid(), number)
            saved.append("all")
    assert saved == ["all"]


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
