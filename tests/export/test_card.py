"""The card says what the run recorded, and other people's names in it are text."""

import re
from dataclasses import replace

import pytest
import yaml
from shapes import SPARSE

from glam.export.card import in_markdown, model_card
from glam.runs.record import Metrics, Record

EVIL = "a|b\n---\n# <script>alert(1)</script> [x](javascript:1) `{{ 7 * 7 }}`"


def record(**parts):
    empty = {
        "failure": {},
        "routing": {},
        "generated": [],
        "layout": [],
        "config": {},
        "suites": [],
    }
    given = {"name": "tiny-4e", "summary": {}, "data": {}, "metrics": Metrics({})}
    return Record(**{**empty, **given, **parts})


def card(described, shape=SPARSE, **parts):
    """The metadata, and the text under it."""
    text = model_card(described(shape), record(**parts))
    _, metadata, body = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(metadata), body


def row(body, *cells):
    return "| " + " | ".join(cells) + " |" in body.splitlines()


SUMMARY = {
    "status": "done",
    "tokens": 20480,
    "parameters": {"total": 27416, "active": 19224, "embedding": 4608},
    "energy": {"joules": 4840.0, "joules_per_million_tokens": 236.0, "source": "rapl"},
    "loss": {"mean": 6.5, "web": 6.25},
    "bits_per_byte": {"mean": 3.5, "web": 3.25},
    "tasks": {
        "embedded": {
            "last_word": {
                **{"metric": "acc", "value": 0.673, "low": 0.62, "high": 0.72, "chance": 0.25},
                **{"items": 300, "num_fewshot": 0, "stderr": 0.02},
            },
            "not measured": {"metric": "acc", "value": None},
        }
    },
}
FUNNEL = [
    {"source": "web", "component": "webpages", "role": "pool", "step": step, **counts}
    for step, counts in {
        "read": {"documents": 30, "characters": 9, "tokens": None},
        "held out": {"documents": 3, "characters": 9, "tokens": 7},
        "kept": {"documents": 12, "characters": 9, "tokens": 1234},
    }.items()
]


def test_data_energy_scores_and_intervals_are_those_of_the_run(described):
    data = {"funnel": FUNNEL, "epochs": {"webpages": 0.5}}
    metadata, body = card(described, summary=SUMMARY, data=data)
    assert row(body, "web", "webpages", "12", "1,234", "3", "not known to glam")
    assert row(body, "energy of training", "4.84 kJ")
    assert row(body, "web", "6.250", "3.250")
    assert row(
        body, "embedded", r"last\_word", "0", "acc", "0.673", "0.620 to 0.720", "0.250", "300"
    )
    assert "Epochs of webpages: 0.50." in body
    assert "not measured" not in body
    [results] = [entry["results"] for entry in metadata["model-index"]]
    assert [one["metrics"][0]["value"] for one in results] == [6.5, 6.25, 0.673]


def test_licences_are_those_of_the_embedded_text(described):
    config = described(SPARSE)
    config = replace(config, data=type(config.data)())
    told = [{**row, "source": "wikipedia"} for row in FUNNEL]
    body = model_card(config, record(data={"funnel": told}))
    assert "CC BY-SA, by the authors of Wikipedia" in body


def test_licences_and_commits_of_a_hubs_text_are_named(described):
    config = described(SPARSE)
    name = FUNNEL[0]["source"]
    origin = {"name": name, "license": "ODC-By 1.0", "origin": "hf://datasets/a/b@0123"}
    body = model_card(config, record(data={"funnel": FUNNEL, "origins": [origin]}))
    assert "| ODC-By 1.0 |" in body
    assert f"- {name}: hf://datasets/a/b@0123 (ODC-By 1.0)" in body


def test_names_become_neither_markup_nor_metadata(described):
    summary = {**SUMMARY, "loss": {"mean": 6.5, EVIL: 6.25}, "energy": {"source": EVIL}}
    data = {"funnel": [{**row, "source": EVIL, "component": EVIL} for row in FUNNEL]}
    metadata, body = card(described, name=EVIL, summary=summary, data=data)
    [model] = metadata["model-index"]
    line = " ".join(EVIL.split())
    assert model["name"] == line
    assert model["results"][1]["dataset"]["name"] == line
    assert "<script" not in body
    assert "49" not in body
    assert "\n---\n" not in body
    assert "](javascript" not in body.replace("\\](", "")


@pytest.mark.parametrize("text", [EVIL, "a_b*c", "", "x\u2028y", "\x1b[31m"])
def test_a_text_in_markdown_is_one_line_without_markup(text):
    written = in_markdown(text)
    assert len(written.splitlines()) <= 1
    assert "<" not in written


def test_a_run_that_recorded_nothing_has_a_card_with_dashes(described):
    _, body = card(described, replace(SPARSE, num_experts=1, dispatcher="capacity"))
    assert row(body, "tokens", "–")
    assert "It was judged on no task." in body
    assert "recorded nothing of its text" in body


def test_a_card_says_that_the_tokenizer_differs_in_ties_and_that_capacity_does_not_drop(described):
    _, body = card(described, replace(SPARSE, dispatcher="capacity"), summary=SUMMARY)
    assert "the same tokens but for ties" in body
    assert "drops tokens of experts that are full" in body
