"""The page of a run."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from glam.reporting import run_report

VOID = {"meta", "link", "br", "img", "hr", "input"}
WriteRun = Callable[..., Path]


class Page(HTMLParser):
    """Tags, ids and links of a page that nests properly."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.words = ""
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._see(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._see(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.words += data

    def _see(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action", "srcset"):
                self.links.append(value or "")
            if name == "aria-label":
                self.labels.append(value or "")


def test_a_page_needs_no_network(write_run: WriteRun) -> None:
    page = Page(run_report(write_run()))

    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "<script" not in page.source
    assert "@import" not in page.source
    assert not re.findall(r"url\((?!#)", page.source)


def test_every_section_says_what_the_files_say(write_run: WriteRun) -> None:
    run = write_run()
    summary = json.loads((run / "summary.json").read_text())

    page = Page(run_report(run))

    assert run.name in page.words
    assert f"{summary['loss']['mean']:.3f}" in page.words
    assert f"{summary['bits_per_byte']['tweets']:.3f}" in page.words
    assert "28,413" in page.words
    assert "1.22\u00a0M" in page.words
    assert "modelled: 15 W for one busy core" in page.words
    assert "32,872" in page.words
    assert "omg <3 this film" in page.words
    assert "In the beginning" in page.words
    assert "learning_rate: auto" in page.words
    assert "4f2a91c" in page.words
    sections = ("loss", "experts", "data", "generated", "cost", "configuration", "reproduce")
    assert set(sections) <= set(page.ids)


def test_every_figure_describes_itself_to_those_who_do_not_see_it(write_run: WriteRun) -> None:
    page = Page(run_report(write_run()))

    assert page.source.count("<svg") == page.source.count('role="img" aria-label="')
    assert any("tweets from" in label for label in page.labels)
    assert any("experts of layer 3 over training" in label for label in page.labels)
    assert any("reviews: read 66.0\u00a0M, distinct 33.5\u00a0M" in label for label in page.labels)


def test_no_two_figures_share_an_id(write_run: WriteRun) -> None:
    page = Page(run_report(write_run(experts=64, layers=12)))

    assert len(page.ids) == len(set(page.ids))


def test_figures_take_the_colours_of_the_readers_mode(write_run: WriteRun) -> None:
    source = run_report(write_run()).read_text()

    assert "prefers-color-scheme: dark" in source
    assert "var(--ink)" in source
    assert not re.findall(r"#0102|#0103", source), "a placeholder was left"


def test_other_peoples_text_is_text(write_run: WriteRun) -> None:
    evil = "<script>alert('$x$')</script>"
    run = write_run(domains=(evil, "a & b $y$"))
    data = json.loads((run / "data.json").read_text())
    data["samples"]["kept"][0] |= {"source": evil, "text": evil}
    data["funnel"][0] |= {"source": evil, "step": evil}
    (run / "data.json").write_text(json.dumps(data))
    generated = [{"prompt": evil, "text": "</p></main>" + evil, "temperature": 1.0}]
    (run / "generated.json").write_text(json.dumps(generated))

    page = Page(run_report(run))

    assert "<script" not in page.source
    assert evil in page.words
    assert "a & b $y$" in page.words


@pytest.mark.parametrize(
    "missing",
    [
        ("generated.json", "routing.json"),
        ("metrics.csv", "config.yaml"),
        ("summary.json", "data.json"),
        ("config.yaml", "metrics.csv", "summary.json", "data.json", "routing.json"),
    ],
)
def test_a_page_is_made_of_what_there_is(write_run: WriteRun, missing: tuple[str, ...]) -> None:
    run = write_run()
    for name in missing:
        (run / name).unlink()

    Page(run_report(run))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3"])
def test_a_file_cut_short_counts_as_missing(write_run: WriteRun, content: str) -> None:
    run = write_run(experts=2)
    for name in ("generated.json", "data.json", "routing.json", "summary.json", "failure.json"):
        (run / name).write_text(content)

    Page(run_report(run))


def test_half_a_line_of_metrics_is_left_out(write_run: WriteRun) -> None:
    run = write_run()
    whole = run_report(run).read_text()
    with (run / "metrics.csv").open("a") as file:
        file.write("9999,99")

    assert run_report(run).read_text() == whole


def test_a_dense_model_has_no_experts_to_show(write_run: WriteRun) -> None:
    page = Page(run_report(write_run(experts=1)))

    assert "This model has no experts" in page.words
    assert ", dense." in page.words


def test_a_diverged_run_says_so_and_keeps_its_curves(write_run: WriteRun) -> None:
    page = Page(run_report(write_run(diverged=True)))

    assert "This run diverged" in page.words
    assert any(label.startswith("Held-out loss by domain") for label in page.labels)


def test_a_run_that_went_back_lists_its_rollbacks(write_run: WriteRun) -> None:
    run = write_run()
    summary = json.loads((run / "summary.json").read_text())
    spike = {"step": 2100, "reason": "loss spike", "loss": 7.25, "limit": 6.5}
    where = {"restored_step": 1830, "first_batch": 1830, "last_batch": 2099, "lost_seconds": 75.0}
    nan = {**spike, **where, "reason": "loss was NaN or Inf", "loss": None, "limit": None}
    (run / "summary.json").write_text(json.dumps(summary | {"rollbacks": [spike | where, nan]}))

    page = Page(run_report(run))

    assert "Rollbacks" in page.words
    for told in ("2,100", "loss spike", "7.250", "6.500", "1,830 to 2,099"):
        assert told in page.words
    assert "loss was NaN or Inf" in page.words


def test_a_run_that_never_went_back_has_no_such_table(write_run: WriteRun) -> None:
    assert "Rollbacks" not in Page(run_report(write_run())).words


def test_a_failed_run_says_why(write_run: WriteRun) -> None:
    run = write_run()
    (run / "summary.json").unlink()
    (run / "failure.json").write_text(json.dumps({"error": "No space <left>", "traceback": ""}))

    page = Page(run_report(run))

    assert "This run failed: No space <left>" in page.words


def test_one_domain_is_its_own_mean(write_run: WriteRun) -> None:
    page = Page(run_report(write_run(domains=("wikipedia",))))

    assert any(label.startswith("Held-out loss by domain: wikipedia from") for label in page.labels)


def test_many_layers_of_many_experts_stay_small(write_run: WriteRun) -> None:
    run = write_run(experts=64, layers=24)

    report = run_report(run)

    assert report.stat().st_size < 1_500_000
    assert 'aria-label="Load of the 64 experts of layer 23' in report.read_text()


def test_the_same_folder_makes_the_same_page(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run()
    first = run_report(run).read_bytes()
    again = shutil.copytree(run, tmp_path / "elsewhere" / run.name)

    assert run_report(again).read_bytes() == first
