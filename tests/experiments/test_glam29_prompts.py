"""The committed page of prompts."""

from experiments.glam29_prompts import PAGE, page
from glam.evaluation.suites.glam29.catalogue import BENCHMARKS


def test_the_page_is_what_the_command_writes_today():
    written = page()
    assert PAGE.read_text(encoding="utf-8") == written, "python -m experiments.glam29_prompts"
    for benchmark in BENCHMARKS.values():
        assert f"\n### {benchmark.title}\n\n```text\n" in written
