"""A command that is done stays done, whoever reads what it prints."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glam import cli
from glam.cli.streams import lost_output, outlasting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stdout(monkeypatch):
    """Puts stdout where it is asked to."""
    opened = []

    def to(path, encoding="utf-8"):
        raw = os.open(path, os.O_WRONLY | os.O_CREAT) if isinstance(path, str | Path) else path
        stream = io.TextIOWrapper(os.fdopen(raw, "wb"), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        opened.append(stream)
        return stream

    yield to
    for stream in opened:
        stream.close()


def test_a_reader_that_has_gone_ends_nothing(stdout):
    read, write = os.pipe()
    os.close(read)
    before = stdout(write)
    with outlasting():
        for _ in range(3):
            print("x" * 100_000, flush=True)
        assert lost_output() is None
    assert sys.stdout is before
    before.close()  # flushes: what was left of it went nowhere


def test_a_full_disk_under_what_is_printed_is_said_and_fails(stdout, monkeypatch, capsys):
    stdout("/dev/full")
    monkeypatch.setattr(cli, "_run", lambda arguments: print("the product"))
    assert cli.main([]) == 1
    said = "error: stdout cannot be written (No space left on device); send it elsewhere\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-8", "15\xa0k … ж"), ("latin-1", "15\xa0k ... \\u0436"), ("ascii", "15 k ... \\u0436")],
)
def test_what_an_encoding_lacks_is_written_otherwise(stdout, tmp_path, encoding, found):
    stdout(tmp_path / "said", encoding)
    with outlasting():
        print("15\xa0k … ж")
    sys.stdout.flush()
    assert (tmp_path / "said").read_text(encoding) == f"{found}\n"


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_descriptors_that_are_closed_are_no_files_of_ours(closed, tmp_path):
    """A closed descriptor is given to the next file that is opened, which then gets what is
    printed."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from glam import cli\n"
        "def work(_):\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        print('out'); print('err', file=sys.stderr)\n"
        "        file.write('results')\n"
        "cli._run = work\n"
        "sys.exit(cli.main([]))\n"
    )
    line = f'"{sys.executable}" "{script}" "{tmp_path}/results" {closed}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(line, shell=True, env=environment, timeout=600, capture_output=True)
    assert ended.returncode == 0
    assert (tmp_path / "results").read_text() == "results"
