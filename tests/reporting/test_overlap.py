"""The overlap with evaluation sets on the page of a run."""

from glam.reporting import run_report
from glam.runs.folder import RunFolder
from glam.units import percent

ROW = {
    "n": 13, "items": 200, "dirty": 20, "share": 0.1, "rare": 15, "common": 8, "ngrams_found": 0.05,
}  # fmt: skip


def page(run, **found):
    RunFolder(run).write_json("overlap.json", found)
    return run_report(run).read_text()


def test_the_page_has_a_row_for_each_task_and_says_what_was_removed(write_run):
    run = write_run()
    assert "Overlap with evaluation sets" not in run_report(run).read_text()
    suites = {"held_out": {"books": ROW}, "embedded": {"agreement": ROW, "domain": ROW}}
    shown = page(run, removed=False, suites=suites)
    assert "Overlap with evaluation sets" in shown
    cells = ["agreement", "13", "200", "20", percent(0.1), "5", percent(0.05)]
    assert "".join(f'<td class="n">{cell}</td>' for cell in cells[1:]) in shown
    assert shown.count(">embedded<") == 1
    assert "left out of training" not in shown
    assert "left out of training" in page(run, removed=True, suites=suites)


def test_an_overlap_that_is_not_as_it_was_written_is_left_out(write_run, capsys):
    run = write_run()
    page(run, removed=False, suites={"held_out": {"books": ROW}})
    file = run / "overlap.json"
    file.write_text(file.read_text().replace("13", "12"))
    assert "Overlap with" not in run_report(run).read_text()
    assert "overlap.json" in capsys.readouterr().err
