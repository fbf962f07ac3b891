"""A study says which of its runs were trained on other text than the rest."""

from typing import Any

from glam.analysis.paired import StudyRow
from glam.analysis.texts import unlike_texts


def cell(run: str, values: dict[str, Any], **summary: str) -> StudyRow:
    return StudyRow.of({"run": run, "values": values, "status": "done", "summary": summary})


def test_seeds_and_sizes_of_one_text_say_nothing():
    rows = [
        cell("a", {"seed": 0}, text_fingerprint="t", data_fingerprint="d"),
        cell("b", {"seed": 1}, text_fingerprint="t", data_fingerprint="d"),
        cell("c", {"model.vocab_size": 9}, text_fingerprint="t", data_fingerprint="e"),
        cell("d", {"seed": 2}),
    ]
    assert unlike_texts(rows) == ""
    assert unlike_texts([]) == ""


def test_a_run_of_other_text_under_the_same_names_is_named():
    rows = [
        cell("a", {"model.num_experts": 1}, text_fingerprint="t"),
        cell("b", {"model.num_experts": 8}, text_fingerprint="u"),
        cell("c", {"model.num_experts": 16}, text_fingerprint="t"),
    ]
    assert unlike_texts(rows) == (
        "These runs were trained on other text than the rest, under the same names, so their "
        "losses do not compare with the others': b."
    )


def test_texts_that_are_swept_may_differ_but_not_within_one_value():
    keys = ("data.corpus.files", "data", "data/corpus")
    for key in keys:
        rows = [
            cell(v + str(s), {key: v, "seed": s}, text_fingerprint=v) for v in "xy" for s in (0, 1)
        ]
        assert unlike_texts(rows) == ""
        assert unlike_texts(
            [*rows, cell("z", {key: "x", "seed": 2}, text_fingerprint="w")]
        ).endswith(": z.")


def test_runs_that_recorded_no_text_are_told_apart_by_their_tokens_over_the_seeds():
    rows = [
        cell("a", {"seed": 0, "model": "m"}, data_fingerprint="d"),
        cell("b", {"seed": 1, "model": "m"}, data_fingerprint="d"),
        cell("c", {"seed": 2, "model": "m"}, data_fingerprint="e"),
        cell("d", {"seed": 2, "model": "n"}, data_fingerprint="f"),
    ]
    assert unlike_texts(rows).endswith("others': c.")
