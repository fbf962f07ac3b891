"""Demonstrations: which, how many, in which order; and the choice among answers."""

import json

import pytest

from glam.config import EvaluationConfig
from glam.errors import UserError
from glam.evaluation.answers import Options
from glam.evaluation.harness import quiet
from glam.evaluation.language_model import LogLikelihood
from glam.evaluation.suites.glam29.benchmark import OVER_ANSWER, PER_TOKEN, SUM
from glam.evaluation.suites.glam29.catalogue import BENCHMARKS
from glam.evaluation.suites.glam29.suite import load_benchmark
from glam.evaluation.suites.glam29.task import normalized
from glam.model.decoding.beam import Beams, LengthPenalty


def words(text):
    return len(text.split())


@pytest.fixture
def task(data_dir):
    """`task(name, shots, …)`, before its requests are built."""

    def load(name, shots, room=None, seed=1234):
        found, _ = load_benchmark(BENCHMARKS[name], EvaluationConfig(data_dir=str(data_dir)))
        found.set_config("num_fewshot", shots)
        found.set_fewshot_seed(seed)
        if room is not None:
            found.fit(words, room)
        return found

    return load


def prompts(task):
    with quiet():
        task.build_all_requests()
    return [one.args[0] for one in task.instances]


@pytest.mark.parametrize("name", ["boolq", "wsc"])
def test_demonstrations_follow_from_seed_and_document(task, name):
    both = prompts(task(name, 1))
    assert both == prompts(task(name, 1))
    alone = task(name, 1)
    documents = list(alone.eval_docs)
    assert alone.fewshot_context(documents[1], 1)[0] == both[2]  # without the one before it
    seeds = {prompts(task(name, 1, seed=seed))[0] for seed in range(8)}
    assert len(seeds) == 2  # both demonstrations that there are


def test_other_documents_are_shown_others(task):
    """Of 16 draws of one of two, all alike have a chance of 2⁻¹⁴; those of WSC are alike always."""

    def first_lines(name):
        draws = (prompts(task(name, 1, seed=seed)) for seed in range(16))
        return [(found[0].split("\n\n")[0], found[2].split("\n\n")[0]) for found in draws]

    assert any(one != other for one, other in first_lines("boolq"))
    assert all(one == other for one, other in first_lines("wsc"))


def test_as_many_demonstrations_as_fit(task):
    whole = task("boolq", 2)
    question = "Tin -- Tin is a soft metal.\nquestion: is tin harder than steel?\nanswer:"
    shown = next(one for one in prompts(whole) if one.endswith(question))
    first, second = (words(one) for one in shown.split("\n\n")[:2])
    alone = 1 + words(question) + 1  # the beginning of the document, and "yes"
    for room, count in ((alone, 0), (alone + first - 1, 0), (alone + first, 1)):
        found = task("boolq", 2, room)
        document = list(found.eval_docs)[1]
        assert found.fewshot_context(document, 2)[0].count("\n\n") == count
    assert task("boolq", 2, alone + first + second).fewshot_context(document, 2)[0] == shown


def test_how_many_are_shown_is_known_when_requests_are_built(task):
    few = task("boolq", 32, room=10_000)
    prompts(few)
    assert few.fewer() == "2.0 of 32"
    assert few.config.num_fewshot == 2
    enough = task("boolq", 2, room=10_000)
    prompts(enough)
    assert enough.fewer() == ""


def test_a_written_answer_needs_room_too(task):
    # 1 for the beginning, 8 words, and 24 tokens for the answer, but at most half of the room; the
    # demonstration has 10 words.
    for room, count in ((36, 0), (37, 1)):
        assert prompts(task("triviaqa", 1, room))[0].count("Q: ") == 1 + count


@pytest.mark.parametrize(("name", "there"), [("boolq", 2), ("winograd", 2), ("lambada", 2)])
def test_more_demonstrations_than_there_are_is_refused(task, name, there):
    with pytest.raises(UserError, match=f"num_fewshot=9: .* has {there} demonstrations"):
        task(name, 0).check(9)


def test_answers_are_written_by_beams_with_gpt3s_penalty(task):
    found = task("nqs", 0)
    prompts(found)
    request = found.instances[0]
    assert request.request_type == "generate_until"
    assert request.args[1] == {
        "until": ["\n"],
        "max_gen_toks": 24,
        "num_beams": 4,
        "length_penalty": 0.6,
        "length_penalty_form": "gnmt",
    }
    options = Options.of(request.args[1], 128)
    assert options.search == Beams(4, LengthPenalty(0.6, "gnmt"))
    assert (options.until, options.max_tokens) == (("\n",), 24)


@pytest.mark.parametrize(
    ("rule", "values"), [(SUM, [-6, -3]), (PER_TOKEN, [-2, -3]), (OVER_ANSWER, [-1, -2])]
)
def test_the_rules_of_comparison(rule, values):
    found = [LogLikelihood(-6, False, 3), LogLikelihood(-3, False, 1)]
    after_answer = [LogLikelihood(-5, False, 3), LogLikelihood(-1, False, 1)]
    given = found + after_answer if rule == OVER_ANSWER else found
    assert normalized(rule, given) == values


def test_what_is_written_beside_results_is_json(task):
    for name in ("cb", "nqs", "multirc"):
        json.dumps(task(name, 0).dump_config())
