"""The help in brief and in full, in the words of the dataclasses."""

import platform

import pytest

import glam
from glam.cli import main
from glam.cli.help import _first_comment
from glam.composition.keys import all_keys, sections
from glam.composition.overrides import CONF, choices


def helped(capsys, *topics: str) -> str:
    assert main(["--help", *topics]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_help_of_a_section_explains_its_keys_with_unit_and_default(capsys):
    said = helped(capsys, "training")
    assert "training.tokens 5000000 tokens to train on, rounded up to whole steps" in said
    assert "training.seconds null" in said
    assert "training=tiny" in said


@pytest.mark.parametrize("section", [one for one in sections() if one])
def test_every_section_has_help_that_names_each_of_its_keys(section, capsys):
    said = helped(capsys, section)
    assert all(key.name in said for key in all_keys() if key.section == section)


def test_the_help_of_a_group_of_several_classes_tells_them_apart(capsys):
    said = helped(capsys, "optimizer")
    adafactor, adamw = said.split("optimizer=adamw AdamW. ")
    assert "optimizer.beta1 0.9" in adamw
    assert "optimizer.beta1" not in adafactor
    assert "optimizer.beta2_decay 0.8" in adafactor


@pytest.mark.parametrize(
    "topic", ["tokens", "training.tokens", "training.tokens=5", "--help=tokens"]
)
def test_the_help_of_a_key_is_found_by_its_last_name_too(topic, capsys):
    said = helped(capsys, topic)
    assert "training.tokens 5000000" in said
    assert "batch_size" not in said


def test_help_for_nothing_that_exists_names_the_nearest(capsys):
    assert main(["--help", "modle"]) == 2
    error = capsys.readouterr().err
    assert error == "error: --help modle: no such key or group; did you mean model?\n"


def test_the_version_is_ours_with_torchs_and_pythons(capsys):
    assert main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"glam {glam.__version__}, torch ")
    assert said.endswith(f"Python {platform.python_version()}\n")


def test_every_experiment_is_told_in_words():
    for name in choices("experiment"):
        assert _first_comment(CONF / "experiment" / f"{name}.yaml"), name
