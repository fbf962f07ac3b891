"""What preparing the text takes, told before it is read."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.preparation.project import fit, on_disk
from glam.config import DataConfig, LocalCorpusConfig, RunConfig
from glam.data.volume import ON_DISK
from glam.planning.preparation import FILTERED, UNFILTERED, Speed, preparation


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    (tmp_path / "web.jsonl").write_bytes(b'{"text": "word"}\n' * 1000)
    data = DataConfig(corpus=LocalCorpusConfig(files=[str(tmp_path / "web.jsonl")]))
    data.filter.name = "none"
    data.workers = 4
    return RunConfig(data=data, cache_dir=str(tmp_path / "cache"))


def test_hours_and_disk_follow_from_the_bytes_of_text(config: RunConfig) -> None:
    found = preparation(config)
    assert found is not None
    assert (found["files"], found["text_bytes"], found["workers"]) == (1, 17_000, 4)
    assert found["disk_bytes"] == ON_DISK * 17_000
    assert found["hours"] * 3600 == pytest.approx(
        UNFILTERED.fixed_s + 17_000 / UNFILTERED.bytes_per_s / 4
    )
    assert found["fits"]


def test_a_disk_that_is_too_small_is_said(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glam.planning.preparation.free_disk", lambda _: 25_000)
    found = preparation(config)
    assert found is not None
    assert (found["fits"], found["free_bytes"]) == (False, 25_000)


def test_text_in_packages_is_not_planned_and_text_that_is_not_here_is_said(
    config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    assert preparation(RunConfig()) is None
    assert not caplog.text
    absent = replace(config.data, corpus=LocalCorpusConfig(files=["/nowhere/web.jsonl"]))
    assert preparation(replace(config, data=absent)) is None
    assert "the preparation of the text is not planned: data.corpus.files" in caplog.text


@pytest.mark.parametrize(("recipe", "speed"), [("filtered", FILTERED), ("unfiltered", UNFILTERED)])
def test_speeds_are_those_that_were_measured(recipe: str, speed: Speed) -> None:
    measured = fit(recipe)
    assert speed.bytes_per_s == pytest.approx(measured.bytes_per_s, rel=0.02)
    assert speed.fixed_s == pytest.approx(measured.fixed_s, rel=0.1)


def test_the_disk_that_is_asked_for_holds_the_most_that_was_written() -> None:
    assert on_disk() <= ON_DISK <= 1.3 * on_disk()
