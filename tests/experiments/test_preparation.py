"""What preparing text takes: what is said of memory, text and rows is so."""

import sys
from pathlib import Path

import pytest

from experiments.preparation import project, table
from experiments.preparation.text import Pages
from experiments.preparation.watch import watch

CHILD = "import time; held = bytearray(60_000_000); time.sleep(1)"
PARENT = f"""
import os, pathlib, subprocess, sys
progress = pathlib.Path(os.environ["GLAM_PROGRESS_FILE"])
progress.write_text('{{"stage": "alone"}}')
sum(range(20_000_000))
progress.write_text('{{"stage": "with a child"}}')
subprocess.run([sys.executable, "-c", "{CHILD}"])
print("said")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells memory in /proc")
def test_memory_is_the_largest_process_and_counts_in_the_stage_that_is_named():
    found = watch([sys.executable, "-c", PARENT])
    assert found.output == "said\n"
    assert 60e6 < found.largest < 90e6
    assert found.largest < found.together < 120e6
    assert found.largest_stage == "with a child"
    assert found.stages["alone"].largest < 50e6
    assert found.cpu_s == pytest.approx(sum(use.cpu_s for use in found.stages.values()))
    assert found.stages["alone"].cpu_s > 0


def test_a_command_that_fails_is_told_with_its_last_words():
    with pytest.raises(RuntimeError, match="the way it ended"):
        watch([sys.executable, "-c", "raise SystemExit('the way it ended')"])


def test_rows_that_are_there_are_found_by_their_key(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "HERE", tmp_path)
    rows = table.Table("sizes")
    rows.add({"recipe": "filtered", "megabytes": 100, "cpu_s": 1.23456})
    rows.add({"recipe": "filtered", "megabytes": 300, "more": 2})
    assert table.Table("sizes").has(recipe="filtered", megabytes=100)
    assert not table.Table("sizes").has(recipe="unfiltered", megabytes=100)
    assert [row["cpu_s"] for row in rows.rows] == ["1.235", ""]
    rows.leave_out(megabytes=100)
    assert [row["megabytes"] for row in rows.rows] == ["300"]


def test_a_fifth_of_web_pages_at_most_is_a_copy_and_pages_are_a_function_of_the_seed(monkeypatch):
    sentences = [f"sentence {number} of them" for number in range(5000)]
    pools = "experiments.preparation.text.pools"
    monkeypatch.setattr(pools, lambda: ({"reviews": sentences}, {}))

    def some(seed: int) -> list[str]:
        pages = iter(Pages(("reviews",), copies=True, seed=seed))
        return [next(pages) for _ in range(2000)]

    made = some(0)
    assert made == some(0) != some(1)
    assert 0.07 < 1 - len(set(made)) / len(made) < 0.13
    assert 0.03 < sum("Posted by user" in page for page in made) / len(made) < 0.07


def test_what_grows_with_the_text_is_extended_from_the_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "HERE", tmp_path)
    for size, reading in ((100, 90), (1000, 150)):
        row = {"recipe": "filtered", "megabytes": size}
        table.Table("sizes").add({**row, "text_mb": size + 100, "disk_mb": size})
        for stage, seconds in (("tokenizer", 40), ("reading", reading), ("find copies", 50)):
            table.Table("stages").add({**row, "stage": stage, "cpu_s": seconds})
    assert project.fit("filtered") == (40, pytest.approx(1100e6 / 200))
    assert project.fit("filtered", "find copies") == (40, pytest.approx(1100e6 / 50))
    assert project.on_disk() == pytest.approx(1000 / 1100)


def test_what_is_committed_is_projected_on_the_pages_that_show_it():
    for page in (table.HERE / "README.md", project.ROOT / "docs" / "scale.md"):
        for row in project.projected():
            assert f"| {' | '.join(project.said(row).values())} |" in page.read_text()
