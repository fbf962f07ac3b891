"""A long step shows how far it is: on a terminal of any width, in plain lines, and in a file."""

import io
import json
import re
import threading

import pytest
from rich.console import Console

from glam import progress
from glam.progress import PROGRESS_FILE, Bar, end_start, show_start, stage, track


class Screen(io.StringIO):
    """What a terminal is given."""

    def isatty(self) -> bool:
        return True


def terminal(width: int) -> Console:
    return Console(file=Screen(), width=width, height=24, force_terminal=True)


def shown(console: Console) -> list[str]:
    """The lines a terminal was given, the newest last, without control sequences."""
    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def last_line(width: int, monkeypatch, name: str = "train", **notes: float) -> str:
    """Of a bar an hour after its start, with a few hours to go."""
    clock = [0.0]
    monkeypatch.setattr("glam.progress.time.monotonic", lambda: clock[0])
    console = terminal(width)
    with Bar(name, 100_000, "steps", console=console) as bar:
        bar.start_at(500)
        clock[0] = 3725.0
        bar.advance(12_000, **notes)
    return shown(console)[-1]


@pytest.mark.parametrize("width", [120, 80, 60])
@pytest.mark.parametrize("name", ["train", "quality classifier of many pages"])
def test_count_elapsed_and_time_left_are_whole_at_any_width(width, name, monkeypatch):
    line = last_line(width, monkeypatch, name, loss=5.1234, tokens_per_second=2505.3)
    assert "12,500/100,000  1:02:05  7:32:41 left" in line
    assert len(line) <= width


def test_notes_go_where_there_is_no_room(monkeypatch):
    notes = {"loss": 5.1234, "tokens_per_second": 2505.3}
    assert last_line(120, monkeypatch, **notes).endswith("left  loss 5.123  2,505 tokens/s")
    assert last_line(80, monkeypatch, **notes).endswith("left  loss 5.123")
    assert last_line(60, monkeypatch, **notes).endswith("left")


def test_a_stage_is_shown_on_a_terminal_before_it_is_over(monkeypatch):
    console = terminal(80)
    monkeypatch.setattr(progress, "_console", console)
    with stage("building the model"):
        assert "building the model" in shown(console)[-1]


def test_the_start_is_shown_until_the_task_begins(monkeypatch):
    console = terminal(80)
    monkeypatch.setattr(progress, "_console", console)
    show_start()
    assert "starting" in shown(console)[-1]
    end_start()
    before = len(shown(console))
    end_start()
    assert len(shown(console)) == before


def test_a_bar_inside_a_stage_stands_below_it(monkeypatch):
    console = terminal(80)
    monkeypatch.setattr(progress, "_console", console)
    with stage("reading the text"), Bar("encode", 10) as bar:
        bar.advance(5)
        bar._rich.refresh()
        above, below = shown(console)[-2:]
    assert "reading the text" in above
    assert "5/10" in below


class Timer(threading.Thread):
    """A timer that goes off when it is told to, or never."""

    made: "list[Timer]"

    def __init__(self, seconds, function, arguments):
        super().__init__()
        self.fire, self.cancelled = lambda: function(*arguments), False
        Timer.made.append(self)

    def start(self):
        pass

    def cancel(self):
        self.cancelled = True


def test_off_a_terminal_a_stage_is_a_line_once_it_takes_long(monkeypatch, capsys):
    Timer.made = []
    monkeypatch.setattr("glam.progress.threading.Timer", Timer)
    with stage("loading PyTorch"):
        Timer.made[0].fire()
        assert capsys.readouterr().err == "loading PyTorch …\n"
        assert not Timer.made[0].cancelled
    with stage("building the model"):
        pass
    assert Timer.made[1].cancelled
    assert capsys.readouterr().err == ""


def test_a_watched_step_publishes_how_far_it_is(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    monkeypatch.setenv(PROGRESS_FILE, str(file))
    with Bar("training", 10) as bar:
        bar.advance(4, loss=2.5)
    seen = json.loads(file.read_text())
    assert (seen["stage"], seen["done"], seen["total"], seen["loss"]) == ("training", 4, 10, 2.5)
    assert seen["seconds_left"] >= 0


def test_a_watched_stage_publishes_its_name(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    monkeypatch.setenv(PROGRESS_FILE, str(file))
    with stage("loading PyTorch"):
        seen = json.loads(file.read_text())
    expected = {"stage": "loading PyTorch", "done": 0, "total": 1, "seconds_left": None}
    assert seen == expected


def test_time_left_counts_what_this_process_did(monkeypatch):
    clock = iter([0.0, 10.0])
    bar = Bar("training", 100)
    monkeypatch.setattr("glam.progress.time.monotonic", lambda: next(clock))
    bar._began = 0.0
    bar.start_at(80)
    bar.done = 90  # ten in this process
    next(clock)
    assert bar.seconds_left == 10.0


def test_off_a_terminal_there_is_a_line_a_minute_and_one_at_the_end(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("glam.progress.time.monotonic", lambda: clock[0])
    with Bar("train", 100, "steps") as bar:
        for _ in range(4):
            clock[0] += 40
            bar.advance(10, loss=4.25)
    assert capsys.readouterr().err.splitlines() == [
        "train: 20 of 100 steps, 5 min 20 s left  loss 4.250",
        "train: 40 of 100 steps, 4 min 00 s left  loss 4.250",
        "train: 40 steps in 2 min 40 s",
    ]


def test_track_passes_the_items_through():
    assert list(track(iter("abc"), "reading", 3)) == ["a", "b", "c"]


def test_nothing_is_published_where_nobody_watches(tmp_path, monkeypatch):
    monkeypatch.delenv(PROGRESS_FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    with Bar("training", 1) as bar:
        bar.advance()
    assert list(tmp_path.iterdir()) == []


def test_colours_that_are_forced_make_a_file_no_terminal(monkeypatch):
    """FORCE_COLOR is set by CI services, whose logs are files."""
    console = Console(file=io.StringIO(), force_terminal=True)  # as rich reads FORCE_COLOR
    monkeypatch.setattr(progress, "_console", console)
    show_start()
    end_start()
    with stage("short"), Bar("train", 3) as bar:
        bar.advance(3)
    [line] = console.file.getvalue().splitlines()  # no spinner, no cursor that is hidden
    assert line.startswith("train: 3 in")


def test_a_notebook_is_no_terminal(monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert not progress.stderr_console().is_jupyter
