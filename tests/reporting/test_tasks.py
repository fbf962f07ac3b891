"""Scores of tasks at the terminal and on the page of a run."""

import io

from rich.console import Console

from glam.reporting.tasks import print_comparison, print_suite, suite_table
from glam.runs.evaluations import file_of
from glam.runs.folder import RunFolder


def score(task, metric="acc", column="", **others):
    found = {
        "task": task, "metric": metric, "value": 0.5, "stderr": 0.1, "low": 0.3, "high": 0.7,
        "chance": 0.25, "items": 40, "num_fewshot": 2, "column": column, "is_first": True,
        "items_digest": "d",
    }  # fmt: skip
    return {**found, **others}


def saved(*scores, **others):
    return {"suite": "s", "scores": list(scores), "missing": {}, "averages": {}, **others}


def printed(show, *what):
    out = io.StringIO()
    show(*what, Console(file=out, width=120))
    return out.getvalue()


def test_a_row_has_score_interval_chance_items_and_demonstrations():
    titles, rows = suite_table(saved(score("arc"), score("arc", "acc_norm", chance=None)))
    assert titles == ["task", "metric", "score (95 % interval)", "chance", "items", "shots"]
    assert rows == [
        ["arc", "acc", "0.500 [0.300, 0.700]", "0.250", "40", "2"],
        ["", "acc_norm", "0.500 [0.300, 0.700]", "–", "40", "2"],
    ]


def test_each_number_of_demonstrations_is_a_column():
    titles, rows = suite_table(
        saved(score("arc", column="0-shot"), score("arc", column="8-shot", value=0.6, low=None))
    )
    assert titles == ["task", "metric", "0-shot", "8-shot", "chance", "items"]
    assert rows == [["arc", "acc", "0.500 [0.300, 0.700]", "0.600", "0.250", "40"]]


def test_each_tasks_own_number_stands_beside_its_column():
    averages = {
        "all 0-shot": {"value": 0.5, "tasks": 1, "of": 1, "column": "0-shot"},
        "all": {"value": 0.6, "tasks": 1, "of": 1, "column": ""},
    }
    suite = saved(score("arc", column="0-shot"), score("arc", column=""), averages=averages)
    titles, rows = suite_table(suite)
    assert titles == ["task", "metric", "0-shot", "own", "chance", "items", "shots of own"]
    assert rows[0][-2:] == ["40", "2"]
    words = printed(print_suite, "run-1", suite)
    assert "all 0-shot: 0.500" in words
    assert "all own: 0.600" in words
    assert "correction (own): 1 of 1 task" in words


def test_scores_without_overlap_stand_beside_the_whole():
    clean = {"items": 30, "value": 0.4, "stderr": 0.1, "low": 0.2, "high": 0.6}
    suite = saved(score("arc", clean=clean), score("piqa", clean=None))
    titles, rows = suite_table(suite)
    assert titles[2:] == [
        *("score (95 % interval)", "clean", "chance", "items", "of them clean", "shots"),
    ]
    assert rows[0][2:] == ["0.500 [0.300, 0.700]", "0.400 [0.200, 0.600]", "0.250", "40", "30", "2"]
    assert rows[1][2:] == ["0.500 [0.300, 0.700]", "–", "0.250", "40", "–", "2"]
    assert "clean: the score of those items" in printed(print_suite, "run-1", suite)


def test_scores_without_overlap_have_a_column_for_each_number_of_demonstrations():
    clean = {"items": 0, "value": None, "stderr": None, "low": None, "high": None}
    titles, [row] = suite_table(
        saved(score("arc", column="0-shot", clean=clean), score("arc", column="8-shot"))
    )
    assert titles[2:6] == ["0-shot", "8-shot", "0-shot clean", "8-shot clean"]
    assert row[4:6] == ["–", "–"]


def test_the_terminal_names_averages_and_what_is_left_out():
    averages = {"NLU": {"value": 0.5, "tasks": 1, "of": 2}}
    suite = saved(score("arc"), missing={"piqa": "its data is not there"}, averages=averages)
    words = printed(print_suite, "run-1", suite)
    assert "run-1  s" in words
    assert "NLU: 0.500, mean of 1 of 2 scores" in words
    assert "piqa: left out, its data is not there" in words


def items(each, digest="d"):
    task = {"task": "arc", "metric": "acc", "column": "8-shot", "digest": digest}
    return {"suite": "s", "tasks": [{**task, "each": each, "clusters": None}]}


def test_runs_are_compared_with_the_first():
    right, wrong = [1] * 30 + [0] * 10, [0] * 30 + [0] * 10
    runs = {"a": items(wrong), "b": items(right), "c": items(right, "other")}
    words = printed(print_comparison, runs)
    assert "b against a" in words
    [line] = [line for line in words.splitlines() if line.startswith("arc, 8-shot")]
    assert line.split()[2:6] == ["acc", "40", "0.000", "0.750"]
    assert "+0.750 ± 0.140*" in line
    assert "they were not judged on the same items" in words.split("c against a")[1]
    assert "Benjamini–Hochberg" in words


def test_the_page_of_a_run_has_the_table(write_run):
    from glam.reporting import run_report

    run = write_run()
    before = run_report(run).read_text()
    assert 'id="tasks"' not in before
    (run / "evaluation").mkdir()
    suite = saved(score("arc"), missing={"piqa": "gone"}, versions={})
    RunFolder(run).write_json(file_of("s"), suite)
    page = run_report(run).read_text()
    assert 'href="#tasks"' in page
    assert "0.500 [0.300, 0.700]" in page
    assert "piqa: left out, gone" in page
