"""Runs made before keep their ids: those of every model x data x optimizer x schedule of `conf/`,
recorded at version 0.1 (commit dc40a5c)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from glam.composition.overrides import CONF
from glam.composition.schema import register, to_run_config
from glam.config import AdamWConfig, RunConfig
from glam.machine.resources import Resources
from glam.runs.identity import run_id

RECORDED = json.loads(Path(__file__).with_name("recorded_ids.json").read_text(encoding="utf-8"))
HERE = Resources(threads=1, precision="bfloat16", device="cpu", memory_bytes=8 << 30, cores=2)
PARTS = ("data", "optimizer", "schedule")
COMBINED = {line: id for line, id in RECORDED.items() if line.count(" ") == 3}
TYPED = {line: id for line, id in RECORDED.items() if line not in COMBINED}


def _text_of_then(line: str) -> list[str]:
    """The text of the first version, which had less."""
    if "data/corpus=" in line:
        return []
    return ["data.corpus.sources=[speeches,scripture,wikipedia,reviews,tweets]"]


def _at_its_rate(config: RunConfig) -> RunConfig:
    """AdamW had one rate for all."""
    if not isinstance(config.optimizer, AdamWConfig):
        return config
    return replace(config, optimizer=replace(config.optimizer, learning_rate=0.012))


@pytest.fixture(scope="module")
def composed():
    """The configuration of a line; each line is composed once."""
    made: dict[str, RunConfig] = {}
    register()

    def config(line: str) -> RunConfig:
        if line not in made:
            made[line] = _at_its_rate(
                to_run_config(compose("config", [*line.split(), *_text_of_then(line)]))
            )
        return made[line]

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield config


@pytest.mark.parametrize("line", TYPED)
def test_a_line_keeps_its_id(composed, line):
    assert run_id(composed(line), HERE) == TYPED[line]


def test_every_combination_of_choices_keeps_its_id(composed):
    for line, recorded in COMBINED.items():
        model, *choices = line.split()
        parts = {
            part: getattr(composed(choice), part)
            for part, choice in zip(PARTS, choices, strict=True)
        }
        assert run_id(replace(composed(model), **parts), HERE) == recorded, line
    assert len(COMBINED) == 320
