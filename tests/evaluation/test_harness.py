"""The hub is asked where it answers, and not otherwise."""

import json

import datasets
import huggingface_hub
import pytest

from glam.evaluation import harness
from glam.evaluation.harness import MissingDataError, data_from, hub_is_reached, load_data


@pytest.fixture(autouse=True)
def reset(monkeypatch):
    """Each test begins as a process does that has not asked."""
    hub_is_reached.cache_clear()
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    yield
    hub_is_reached.cache_clear()


class Session:
    """Of the hub's library, without a network."""

    def __init__(self, answers):
        self.asked, self.answers = 0, answers

    def head(self, *_, **__):
        self.asked += 1
        if not self.answers:
            raise OSError("no network")


@pytest.mark.parametrize("answers", [True, False])
def test_the_hub_is_tried_once_and_its_libraries_are_told(monkeypatch, answers):
    session = Session(answers)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    assert [hub_is_reached(), hub_is_reached()] == [answers, answers]
    assert session.asked == 1
    assert huggingface_hub.constants.is_offline_mode() == (not answers)
    assert datasets.config.HF_HUB_OFFLINE is not answers


def test_offline_a_missing_set_fails_at_once_and_is_named(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: Session(False))
    with pytest.raises(MissingDataError) as missing:
        load_data("allenai/no_such_set", "one", None)
    assert str(missing.value) == (
        "its data, allenai/no_such_set (one), is not in the cache, and the hub is out of reach; "
        "evaluation.data_dir=<folder> reads a copy"
    )


def test_with_a_folder_the_hub_is_not_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "hub_is_reached", lambda: pytest.fail("asked"))
    with pytest.raises(MissingDataError, match=r"is not in .* \(no folder a/b in it\)"):
        load_data("a/b", None, str(tmp_path))


@pytest.mark.parametrize("place", ["owner/set/small", "set/small", "owner/set"])
def test_a_folder_in_the_hubs_layout_is_read(place, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data" / place
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(json.dumps({"text": split}) + "\n")
    with data_from(str(tmp_path / "data")):
        found = datasets.load_dataset("owner/set", "small")
    assert [row["text"] for row in found["test"]] == ["test"]
    assert set(found) == {"train", "test"}
