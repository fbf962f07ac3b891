"""A classifier as a folder: what is written comes back, and nothing else passes for one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from glam.config import FilterConfig
from glam.data.classifier import Classifier
from glam.data.classifier_file import (
    WEIGHTS,
    TrainedOn,
    fingerprint,
    given_classifier,
    load_classifier,
    save_classifier,
    write_weights,
)
from glam.errors import UserError

RNG = np.random.default_rng(0)
MADE = Classifier.rounded(RNG.normal(size=(2, 64)), RNG.normal(size=2), ngrams=3)
LAWS = TrainedOn(source="laws", role="curated", documents=5, pages=9, license="")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_classifier(tmp_path / "made", MADE, 0.98, [LAWS], seed=0)
    return tmp_path / "made"


def test_what_is_written_comes_back_from_its_folder_and_from_its_file(folder: Path) -> None:
    for path in (folder, folder / WEIGHTS):
        found = load_classifier(path)
        np.testing.assert_array_equal(found.weights, MADE.weights)
        np.testing.assert_array_equal(found.bias, MADE.bias)
        assert (found.exponent, found.ngrams) == (MADE.exponent, MADE.ngrams)
        assert fingerprint(found) == fingerprint(MADE)
    shutil.move(folder, folder.parent / "stage" / "classifier")  # as a stage of the cache has it
    assert fingerprint(load_classifier(folder.parent / "stage")) == fingerprint(MADE)


def test_equal_classifiers_are_equal_files(folder: Path, tmp_path: Path) -> None:
    save_classifier(tmp_path / "again", MADE, 0.98, [LAWS], seed=0)
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("damage", ["cut short", "empty", "one bit", "other tensors", "a pickle"])
def test_a_file_that_is_damaged_or_another_is_refused_in_one_line(
    folder: Path, damage: str
) -> None:
    file = folder / WEIGHTS
    content = bytearray(file.read_bytes())
    if damage == "cut short":
        file.write_bytes(content[:-40])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "one bit":
        content[-100] ^= 1
        file.write_bytes(content)
    elif damage == "a pickle":
        file.write_bytes(b"\x80\x04\x95" + bytes(60))
    else:
        save_file({"layer.weight": np.zeros((2, 3), np.float32)}, file)
    with pytest.raises(UserError, match=r"^data.filter.model=.*; (name|bring)") as refusal:
        load_classifier(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("told", ["[1]", "null", "{}", '{"exponent": "a", "ngrams": 2}'])
def test_a_file_whose_description_is_another_is_refused(folder: Path, told: str) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors, folder / WEIGHTS, {"glam.quality_classifier.1": told})
    with pytest.raises(UserError, match=r"^data.filter.model=.* cannot be read .*; name the"):
        load_classifier(folder)


@pytest.mark.parametrize(
    "absurd",
    [
        {"weights": MADE.weights[:, :0]},
        {"weights": MADE.weights.astype(np.float32)},
        {"weights": MADE.weights[:1]},
        {"bias": MADE.bias * np.nan},
        {"exponent": 5000},
        {"ngrams": 0},
        {"ngrams": 1000},
    ],
)
def test_numbers_that_no_classifier_has_are_refused_though_their_hash_is_right(
    folder: Path, absurd: dict[str, Any]
) -> None:
    """The kernel in C reads beyond the weights of such a one."""
    write_weights(folder / WEIGHTS, replace(MADE, **absurd))
    with pytest.raises(UserError, match=r"^data.filter.model=.*not those of a classifier"):
        load_classifier(folder)


def test_a_place_without_a_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no classifier\.safetensors; name the folder"):
        load_classifier(tmp_path)
    with pytest.raises(UserError, match="is not there; name the folder"):
        load_classifier(tmp_path / "nowhere")


def test_other_features_than_the_given_classifier_has_are_refused(folder: Path) -> None:
    assert given_classifier(FilterConfig()) is None
    model = str(folder)
    for fits in (FilterConfig(model=model), FilterConfig(model=model, num_features=64, ngrams=3)):
        found = given_classifier(fits)
        assert found is not None
        assert fingerprint(found) == fingerprint(MADE)
    for other, line in (
        (FilterConfig(model=model, num_features=128), "num_features=128 but .* has 64; leave"),
        (FilterConfig(model=model, ngrams=5), "ngrams=5 but .* has 3; leave"),
        (FilterConfig(model=model, folds=3), "folds=3 but .* has 2; leave"),
    ):
        with pytest.raises(UserError, match=f"^data.filter.{line}"):
            given_classifier(other)
