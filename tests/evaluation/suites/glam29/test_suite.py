"""All 29 at once."""

import io
import shutil
from collections import Counter

import pytest
from rich.console import Console

from glam.config import EvaluationConfig
from glam.errors import UserError
from glam.evaluation.judge import run_suite
from glam.evaluation.suites import SUITES
from glam.evaluation.suites.glam29.benchmark import CATEGORIES, Chosen, Generated
from glam.evaluation.suites.glam29.catalogue import BENCHMARKS
from glam.files import check_type
from glam.reporting.tasks import print_suite, suites_on_page
from glam.runs.evaluations import SavedSuite


def load(data_dir, **fields):
    return SUITES["glam29"]().load(EvaluationConfig(data_dir=str(data_dir), **fields), None)


@pytest.fixture(scope="module")
def loaded(data_dir):
    return load(data_dir)


def test_there_are_21_to_choose_and_8_to_write_in_seven_categories(loaded):
    assert len(loaded.tasks) == 29
    assert sum(isinstance(one, Chosen) for one in BENCHMARKS.values()) == 21
    assert sum(isinstance(one, Generated) for one in BENCHMARKS.values()) == 8
    assert {one.category for one in BENCHMARKS.values()} == set(CATEGORIES)
    assert {name: len(tasks) for name, tasks in loaded.averages.items()} == {
        "all": 30,  # SQuADv2 as F1 and exact match
        "NLG": 9,
        "NLU": 21,
        "open-domain QA": 3,
        "cloze and completion": 3,
        "Winograd-style": 2,
        "commonsense reasoning": 4,
        "reading comprehension": 7,
        "SuperGLUE": 8,
        "natural language inference": 3,
    }


def test_demonstrations_are_as_many_as_gpt3s(loaded):
    """Its table H.1."""
    assert loaded.num_fewshot == {
        **{"triviaqa": 64, "nqs": 64, "webqs": 64, "lambada": 15, "hellaswag": 20},
        **{"storycloze": 70, "winograd": 7, "winogrande": 50, "piqa": 50, "arc_e": 50},
        **{"arc_c": 50, "openbookqa": 100, "drop": 20, "coqa": 5, "quac": 5, "squadv2": 16},
        **{"race_m": 10, "race_h": 10, "boolq": 32, "cb": 32, "copa": 32, "rte": 32, "wic": 32},
        **{"wsc": 32, "multirc": 32, "record": 32, "anli_r1": 50, "anli_r2": 50, "anli_r3": 50},
    }


def test_a_set_that_is_missing_is_named_and_the_others_go_on(data_dir, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    (folder / "baber" / "piqa" / "default" / "train.jsonl").unlink()
    strange = folder / "allenai" / "openbookqa" / "main" / "test.jsonl"
    strange.write_text('{"question": "no stem"}\n')
    found = load(folder)
    assert len(found.tasks) == 27
    assert set(found.missing) == {"piqa", "openbookqa"}
    assert "piqa/default/train.jsonl" in found.missing["piqa"]
    assert "not the fields of allenai/openbookqa" in found.missing["openbookqa"]
    assert len(found.averages["commonsense reasoning"]) == 4  # so an average says over how many


def test_items_are_texts_of_every_benchmark(loaded):
    items = list(SUITES["glam29"]().items(loaded).load())
    documents = {name: len(task.eval_docs) for name, task in loaded.tasks.items()}
    assert Counter(one.task for one in items) == documents
    assert all("".join(one.stretches).strip() for one in items)
    for one in items:  # no stretch has the words of a template where a field is long enough
        long = [stretch for stretch in one.stretches if len(stretch.split()) >= 8]
        assert not any(stretch.startswith(("Question:", "Q:")) for stretch in long), one


def test_what_only_a_score_reads_is_read_too(data_dir, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    file = folder / "mandarjoshi" / "trivia_qa" / "rc.nocontext" / "validation.jsonl"
    file.write_text('{"question": "Who?", "answer": {"value": "Ida"}}\n')
    assert "KeyError: 'aliases'" in load(folder, tasks=["triviaqa", "boolq"]).missing["triviaqa"]


def test_a_demonstration_that_cannot_be_read_is_refused(data_dir, tmp_path, lm):
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    (folder / "aps" / "super_glue" / "copa" / "train.jsonl").write_text(
        '{"premise": "It rained."}\n'
    )
    with pytest.raises(UserError, match="document 1 of train has not its fields"):
        run_suite(lm, load(folder, tasks=["copa"]))


def test_some_can_be_picked(data_dir):
    found = load(data_dir, tasks=["squadv2", "piqa"])
    assert list(found.tasks) == ["piqa", "squadv2"]
    assert set(found.averages) == {
        *("all", "NLG", "NLU", "commonsense reasoning", "reading comprehension")
    }


def test_an_unknown_one_is_refused_with_the_nearest(data_dir):
    with pytest.raises(UserError, match="'boolqa' is not known; did you mean boolq"):
        load(data_dir, tasks=["boolqa"])


def test_nothing_there_at_all_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none of its data sets is there .*evaluation\.data_dir"):
        load(tmp_path)


def test_items_of_a_passage_belong_together(loaded):
    passages = {
        name: [of(one) for one in loaded.tasks[name].eval_docs]
        for name, of in loaded.cluster.items()
    }
    assert {name: (len(each), len(set(each))) for name, each in passages.items()} == {
        **{"drop": (2, 2), "coqa": (2, 1), "quac": (2, 1), "squadv2": (2, 1), "race_m": (2, 1)},
        **{"race_h": (2, 2), "multirc": (3, 1), "record": (1, 1)},
    }


def test_only_the_items_that_are_judged_are_read(data_dir, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    with (folder / "allenai" / "openbookqa" / "main" / "test.jsonl").open("a") as file:
        file.write('{"question": "no stem"}\n')
    assert "openbookqa" in load(folder, limit=1).tasks
    assert "openbookqa" in load(folder).missing


@pytest.fixture(scope="module")
def result(data_dir, lm, tmp_path_factory):
    """Of a model, on all but PIQA, zero- and one-shot."""
    folder = tmp_path_factory.mktemp("short") / "data"
    shutil.copytree(data_dir, folder)
    shutil.rmtree(folder / "baber")
    return run_suite(lm, load(folder, limit=1), num_fewshot=(0, 1), limit=1)


def test_a_model_is_judged_on_all_that_are_there(result):
    scores = {(one.task, one.metric, one.column): one for one in result.scores}
    firsts = [key for key, one in scores.items() if one.is_first]
    assert len(firsts) == 2 * 28
    assert scores["boolq", "acc", "0-shot"].chance == 0.5
    assert scores["boolq", "acc", "1-shot"].num_fewshot == 1
    assert scores["squadv2", "em", "0-shot"].published["GPT-3 175B"]["value"] == 0.526
    assert scores["squadv2", "em", "1-shot"].published["GLaM 64B/64E"]["value"] == 0.665
    assert scores["drop", "em", "0-shot"].published == {}
    assert set(result.missing) == {"piqa"}
    check_type(result.content(), SavedSuite)


def test_an_average_says_over_how_many_it_is(result):
    of = {name: (one["tasks"], one["of"]) for name, one in result.averages.items()}
    assert of["all 1-shot"] == (29, 30)
    assert of["NLG 0-shot"] == (9, 9)
    assert of["commonsense reasoning 0-shot"] == (3, 4)
    firsts = {
        one.task: one.value for one in result.scores if one.is_first and one.column == "0-shot"
    }
    three = [firsts[name] for name in ("arc_e", "arc_c", "openbookqa")]
    assert result.averages["commonsense reasoning 0-shot"]["value"] == pytest.approx(sum(three) / 3)
    assert result.averages["NLG 1-shot"]["published"]["GPT-3 175B"]["value"] == 0.529


def test_the_table_has_the_published_figures_beside(result):
    text = io.StringIO()
    print_suite("run", result.content(), Console(file=text, width=200))
    [line] = [one for one in text.getvalue().splitlines() if one.startswith("webqs ")]
    assert line.split()[-6:] == ["0.155?,", "–", "0.144,", "0.253?", "0.000", "1"]
    assert "all 0-shot: " in text.getvalue()
    assert (
        "mean of 29 of 30 scores; GLaM 64B/64E 0.627 over all; GPT-3 175B 0.569" in text.getvalue()
    )
    assert "piqa: left out, neither" in text.getvalue()
    [page] = suites_on_page([result.content()])
    assert any(line.startswith("GLaM and GPT-3: as public copies") for line in page["lines"])


def test_demonstrations_that_do_not_fit_are_counted(result, lm, data_dir, capsys):
    """Of 300 bytes WSC's instructions leave none for a demonstration."""
    loaded = load(data_dir, tasks=["wsc", "copa"])
    found = run_suite(lm, loaded)
    assert {one.task: one.num_fewshot for one in found.scores} == {"copa": 2, "wsc": 0}
    told = capsys.readouterr().err
    assert "as many as there are and fit 300 tokens: copa 2.0 of 32, wsc 0.0 of 32" in told
