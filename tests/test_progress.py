"""A step's figures can be watched from outside."""

import json

from glam.progress import PROGRESS_FILE, Bar, track


def test_a_watched_step_publishes_how_far_it_is(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    monkeypatch.setenv(PROGRESS_FILE, str(file))
    with Bar("training", 10) as bar:
        bar.advance(4, loss=2.5)
    seen = json.loads(file.read_text())
    assert (seen["stage"], seen["done"], seen["total"], seen["loss"]) == ("training", 4, 10, 2.5)
    assert seen["seconds_left"] >= 0


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
        "train: 20 of 100 steps, 5.3 min left  loss 4.250",
        "train: 40 of 100 steps, 4.0 min left  loss 4.250",
        "train: 40 steps in 160.0 s",
    ]


def test_track_passes_the_items_through():
    assert list(track(iter("abc"), "reading", 3)) == ["a", "b", "c"]


def test_nothing_is_published_where_nobody_watches(tmp_path, monkeypatch):
    monkeypatch.delenv(PROGRESS_FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    with Bar("training", 1) as bar:
        bar.advance()
    assert list(tmp_path.iterdir()) == []
