"""The published figures."""

import pytest

from glam.evaluation.suites.glam29.catalogue import BENCHMARKS
from glam.evaluation.suites.glam29.published import published
from glam.evaluation.suites.glam29.suite import averages

AVERAGES = averages(BENCHMARKS)
GLAM, GPT3 = "GLaM 64B/64E", "GPT-3 175B"


def figures(model, setting):
    return {
        f"{one.task}/{one.metric}": one.value
        for one in published()
        if (one.model, one.setting) == (model, setting) and one.metric != "mean"
    }


def printed(model, setting, average):
    [found] = [
        one.value
        for one in published()
        if (one.model, one.setting, one.task) == (model, setting, average)
    ]
    return found


def test_every_figure_is_a_share_of_a_metric_of_the_suite_with_its_source():
    metrics = {(name, metric) for name, one in BENCHMARKS.items() for metric in one.metrics}
    for one in published():
        assert (one.task, one.metric) in metrics or one.task in AVERAGES
        assert 0 <= one.value <= 1
        assert "arXiv" in one.source or "lists" in one.source
    named = [(one.task, one.metric, one.model, one.setting) for one in published()]
    assert len(named) == len(set(named))


def test_what_copies_disagree_on_is_marked():
    doubt = {(one.task, one.model, one.setting): one.doubt for one in published() if one.doubt}
    assert doubt["webqs", GLAM, "zero"] == "19.0 by palm_4"
    assert ("triviaqa", GLAM, "one") not in doubt


@pytest.mark.parametrize("setting", ["zero", "one"])
def test_gpt3s_figures_give_the_average_that_is_printed_over_thirty_numbers(setting):
    """Three of them are of one copy only, so to two tenths."""
    found = figures(GPT3, setting)
    thirty = [found[_with_metric(one)] for one in AVERAGES["all"]]
    assert len(thirty) == 30
    assert sum(thirty) / 30 == pytest.approx(printed(GPT3, setting, "all"), abs=0.002)


def test_generation_counts_squadv2_twice():
    found = figures(GPT3, "one")
    nine = [found[_with_metric(one)] for one in AVERAGES["NLG"]]
    assert sum(nine) / 9 == pytest.approx(printed(GPT3, "one", "NLG"), abs=0.0005)
    eight = sum(nine) - found["squadv2/em"]
    assert eight / 8 != pytest.approx(printed(GPT3, "one", "NLG"), abs=0.005)


def _with_metric(name):
    return name if "/" in name else f"{name}/{BENCHMARKS[name].metrics[0]}"
