"""A suite judged by lm-eval's engine: scores, chance, intervals, columns, and what is refused."""

import json
import logging
import statistics
from dataclasses import replace

import datasets
import numpy as np
import pytest
from lm_eval.api.task import ConfigurableTask

from glam.errors import UserError
from glam.evaluation.harness import bootstrap_error, quiet
from glam.evaluation.judge import check_lengths, run_suite
from glam.evaluation.language_model import GlamLM
from glam.evaluation.scores import score
from glam.evaluation.suites import LoadedSuite
from glam.intervals import standard_error, t_quantile, wilson

NAMES = ("task", "metric", "chance", "num_fewshot", "column", "is_first", "items_digest")
CLEAN = ("items", "value", "stderr", "low", "high")
ITEMS = [
    {"q": "abc" + letter * 3, "c": ["aa", "bbb", "c"], "y": place % 3, "page": "uv"[place % 2]}
    for place, letter in enumerate("abcdefgh")
]


def task(name, **changes):
    """A choice of three, or what `changes` make of it."""
    config = {
        "task": name,
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(ITEMS)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": lambda doc: doc["q"],
        "doc_to_choice": lambda doc: doc["c"],
        "doc_to_target": lambda doc: doc["y"],
        "target_delimiter": "",
        "fewshot_delimiter": "x",
    }
    with quiet():
        return ConfigurableTask(config=config | changes)


def written(name):
    answers = {
        "output_type": "generate_until",
        "doc_to_choice": None,
        "doc_to_target": lambda doc: doc["c"][0],
        "generation_kwargs": {"until": ["z"], "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    return task(name, **answers)


@pytest.fixture
def lm(model, tokenizer):
    return GlamLM(model.eval(), tokenizer, max_length=64)


def choices(lm, doc, normalize):
    """Nats of the choices, per character of text where `normalize`."""
    request = [lm._encode_pair(doc["q"], choice) for choice in doc["c"]]
    nats = [one[0] for one in lm._loglikelihood_tokens([(None, *both) for both in request])]
    return [n / len(c) if normalize else n for n, c in zip(nats, doc["c"], strict=True)]


def test_scores_are_those_of_the_items(lm):
    loaded = LoadedSuite(name="toy", tasks={"choice": task("choice"), "answer": written("answer")})
    result = run_suite(lm, loaded)
    acc, acc_norm, exact = result.scores
    for found, normalize in ((acc, False), (acc_norm, True)):
        nats = [choices(lm, doc, normalize) for doc in ITEMS]
        right = [n.index(max(n)) == doc["y"] for n, doc in zip(nats, ITEMS, strict=True)]
        assert found.each == tuple(map(float, right))
        assert found.value == sum(right) / 8
        assert (found.low, found.high) == wilson(sum(right), 8)
        assert found.chance == pytest.approx(1 / 3)
    assert (exact.task, exact.metric, exact.items, exact.chance) == (
        *("answer", "exact_match", 8),
        None,
    )
    assert [one.is_first for one in result.scores] == [True, False, True]
    assert {one.column for one in result.scores} == {""}


def test_a_list_of_numbers_of_demonstrations_makes_columns(lm):
    result = run_suite(lm, LoadedSuite(name="toy", tasks={"choice": task("choice")}), [0, 2])
    assert [(one.column, one.num_fewshot, one.metric) for one in result.scores] == [
        ("0-shot", 0, "acc"),
        ("0-shot", 0, "acc_norm"),
        ("2-shot", 2, "acc"),
        ("2-shot", 2, "acc_norm"),
    ]
    assert list(result.lm_eval) == ["0-shot", "2-shot"]
    assert list(result.tasks()) == ["choice, 0-shot", "choice, 2-shot"]
    [alone] = run_suite(
        lm, LoadedSuite(name="toy", tasks={"choice": task("choice")}, num_fewshot={"choice": 2})
    ).tasks().values()  # fmt: skip
    assert alone == result.tasks()["choice, 2-shot"]


def test_each_tasks_own_number_of_demonstrations_is_a_column_among_others(lm):
    tasks = {"one": task("one", num_fewshot=3), "two": task("two")}
    loaded = LoadedSuite(
        name="toy", tasks=tasks, num_fewshot={"two": 1}, averages={"all": ("one",)}
    )
    told = []
    result = run_suite(lm, loaded, [5, "own"], done=told.append)
    firsts = [(one.column, one.task, one.num_fewshot) for one in result.scores if one.is_first]
    assert firsts == [("5-shot", "one", 5), ("5-shot", "two", 5), ("", "one", 3), ("", "two", 1)]
    assert list(result.averages) == ["all 5-shot", "all"]
    assert [[*column.lm_eval] for column in told] == [["5-shot"], [""]]
    assert [one for column in told for one in column.scores] == result.scores


def test_a_suite_says_which_metrics_chance_averages_and_clusters_its_tasks_have(lm):
    loaded = LoadedSuite(
        name="toy",
        tasks={"one": task("one"), "two": task("two")},
        metrics={"one": ("acc_norm",)},
        chance={"one": 0.4},
        missing={"three": "it is not there"},
        averages={"all": ("one", "two", "three")},
        cluster={"one": lambda doc: doc["page"]},
    )
    result = run_suite(lm, loaded, limit=6)
    one, two, _ = result.scores
    assert (one.metric, one.chance, one.items) == ("acc_norm", 0.4, 6)
    assert (two.task, two.metric) == ("two", "acc")
    assert one.clusters == ("u", "v", "u", "v", "u", "v")
    pages = [sum(one.each[n::2]) - 3 * one.value for n in (0, 1)]
    assert one.stderr == pytest.approx((2 * sum(p * p for p in pages)) ** 0.5 / 6)
    [average] = result.averages.values()
    assert average == {
        **{"value": (one.value + two.value) / 2, "tasks": 2, "of": 3, "published": {}},
        **{"over": ["one", "two", "three"], "column": ""},
    }
    assert result.content()["missing"] == {"three": "it is not there"}


def test_beside_a_score_stands_that_of_the_items_without_overlap(lm):
    tasks = {"choice": task("choice"), "answer": written("answer")}
    dirty = {"choice": [n % 3 == 0 for n in range(8)]}
    cluster = {"choice": lambda doc: doc["page"]}
    loaded = LoadedSuite(name="toy", tasks=tasks, dirty=dirty, cluster=cluster)
    acc, _, exact = run_suite(lm, loaded).scores
    kept = [n for n in range(8) if n % 3]
    alone = score(
        value=statistics.fmean(acc.each[n] for n in kept),
        stderr=None,
        each=[acc.each[n] for n in kept],
        clusters=[acc.clusters[n] for n in kept],
        **{name: getattr(acc, name) for name in NAMES},
    )
    assert acc.clean == {name: getattr(alone, name) for name in CLEAN}
    assert acc.clean["items"] == 5
    assert exact.clean is None  # of it no overlap is known
    whole = run_suite(lm, LoadedSuite(name="toy", tasks=tasks, cluster=cluster)).scores[0]
    assert replace(acc, clean=None) == whole


def test_a_metric_that_is_no_mean_is_aggregated_anew_without_the_items_that_overlap(lm):
    f1 = {"metric": "f1", "aggregation": "f1", "higher_is_better": True}
    labels = {"doc_to_choice": ["aa", "bbb"], "doc_to_target": lambda doc: doc["y"] % 2}
    tasks = {"choice": task("choice", metric_list=[f1], **labels)}

    def judged(limit=None, dirty=()):
        loaded = LoadedSuite(name="toy", tasks=tasks, dirty={"choice": dirty} if dirty else {})
        return run_suite(lm, loaded, limit=limit).scores[0]

    found = judged(dirty=[n >= 5 for n in range(8)]).clean
    assert (found["value"], found["items"], found["low"]) == (judged(limit=5).value, 5, None)
    nothing = judged(dirty=[True] * 8).clean
    assert nothing == {"items": 0, "value": None, "stderr": None, "low": None, "high": None}


def test_what_lm_eval_found_is_kept_in_its_own_words(lm):
    result = run_suite(lm, LoadedSuite(name="toy", tasks={"choice": task("choice")}))
    [found] = result.lm_eval.values()
    assert json.loads(json.dumps(found)) == found
    assert found["results"]["choice"]["acc,none"] == result.scores[0].value
    assert found["results"]["choice"]["acc_stderr,none"] == pytest.approx(result.scores[0].stderr)
    assert "samples" not in found


def test_a_metric_that_is_no_mean_has_the_error_of_drawing_items_again(lm, capsys):
    f1 = {"metric": "f1", "aggregation": "f1", "higher_is_better": True}
    labels = {"doc_to_choice": ["aa", "bbb"], "doc_to_target": lambda doc: doc["y"] % 2}
    loaded = LoadedSuite(name="toy", tasks={"choice": task("choice", metric_list=[f1], **labels)})
    [found] = run_suite(lm, loaded).scores
    assert found.each == ()
    assert found.stderr == pytest.approx((found.high - found.value) / t_quantile(0.975, 7))
    assert capsys.readouterr().out == ""


def test_a_mean_of_drawn_items_has_the_error_of_the_mean():
    values = np.random.default_rng(0).normal(size=50).tolist()
    found = bootstrap_error(statistics.fmean, values, 2000)
    assert found == pytest.approx(standard_error(values), rel=0.1)


def test_items_are_told_apart_by_a_digest(lm):
    def digest(limit):
        loaded = LoadedSuite(name="toy", tasks={"choice": task("choice")})
        return run_suite(lm, loaded, limit=limit).scores[0].items_digest

    assert digest(4) == digest(4) != digest(5)


def test_more_demonstrations_than_there_are_documents_are_refused(lm):
    loaded = LoadedSuite(name="toy", tasks={"choice": task("choice", fewshot_split="test")})
    told = []
    with pytest.raises(UserError) as refused:
        run_suite(lm, loaded, [0, 8], done=told.append)
    assert not told  # before any column is judged
    assert str(refused.value) == (
        "evaluation.num_fewshot=8: choice has 7 documents for demonstrations; take at most 7"
    )
    assert run_suite(GlamLM(lm.model, lm.glam_tokenizer, max_length=200), loaded, [7]).scores


def test_demonstrations_that_do_not_fit_into_the_context_are_refused_before_the_work(lm):
    loaded = LoadedSuite(name="toy", tasks={"choice": task("choice")})
    with pytest.raises(
        UserError, match=r"num_fewshot=7: a prompt of choice has 7. tokens, and the "
    ):
        run_suite(lm, loaded, [7])


def test_a_few_long_prompts_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "glam"):
        check_lengths(10, 2, {"t": [5, 5, 11], "u": [4]})
    assert "t: 1 of 3 prompts have more than 10 tokens and lose their start" in caplog.text
    assert "u" not in caplog.text.split(":")[0]
    check_lengths(10, None, {"t": [11, 11]})  # without demonstrations, documents are what they are
    with pytest.raises(UserError, match=r"take at most 1, or a longer evaluation\.max_length"):
        check_lengths(10, 4, {"t": [20, 20]})
