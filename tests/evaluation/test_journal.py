"""An evaluation that was cut off goes on from the answers that it had."""

import contextlib

import pytest
import torch
from filelock import FileLock
from lm_eval.api.instance import Instance

from glam.evaluation import answers, language_model
from glam.evaluation.journal import Journal, journal
from glam.evaluation.language_model import GlamLM


def requests():
    """Of log-likelihoods in several batches, and of written answers in several."""
    contexts = [letter * 30 for letter in "abcdefghijklmnop"]
    asked = [Instance("loglikelihood", {}, (one, "abc"), 0) for one in contexts]
    options = {"until": ["z"], "max_gen_toks": 3}
    prompts = [(one[:4] + letter, options) for one in contexts[:10] for letter in "xy"]
    written = [Instance("generate_until", {}, prompt, 0) for prompt in prompts]
    return asked, written


def answered(model, tokenizer, found):
    lm = GlamLM(model, tokenizer, max_length=64, batch_tokens=64, journal=found)
    asked, written = requests()
    return lm.loglikelihood(asked), lm.generate_until(written)


def answered_under(file, model, tokenizer):
    with journal(file, model) as found:
        return answered(model, tokenizer, found)


class Killed(BaseException):
    pass


def killed_after(monkeypatch, batches):
    """The next journal's process ends before it writes so many batches and one more."""
    add, count = Journal.add, iter(range(batches))

    def adds(self, batch):
        if next(count, None) is None:
            raise Killed
        add(self, batch)

    monkeypatch.setattr(Journal, "add", adds)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "evaluation" / ".s.part"


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_what_was_answered_is_not_asked_again_and_the_rest_has_the_same_digits(
    model, tokenizer, file, monkeypatch, batches
):
    with journal(file, model) as whole:
        expected = answered(model, tokenizer, whole)
        lines = file.read_text().splitlines()
    assert not file.exists()
    assert len(lines) == 5
    with monkeypatch.context() as patched:
        killed_after(patched, batches)
        with pytest.raises(Killed):
            answered_under(file, model, tokenizer)
    assert len(file.read_text().splitlines()) == 1 + batches
    with file.open("a") as out:
        out.write(lines[batches + 1][:-9])  # which was being written
    asked = count_answers(monkeypatch)
    with journal(file, model) as found:
        known = len(found.known)
        assert answered(model, tokenizer, found) == expected
        assert file.read_text().splitlines()[0] == lines[0]
    assert 0 < known == 36 - sum(asked)


def count_answers(monkeypatch):
    asked, judge, write = [], language_model.judge, answers.Answers._write

    def judges(model, batch, tokens):
        asked.append(len(batch))
        return judge(model, batch, tokens)

    def writes(self, batch, options):
        asked.append(len(batch))
        return write(self, batch, options)

    monkeypatch.setattr(language_model, "judge", judges)
    monkeypatch.setattr(answers.Answers, "_write", writes)
    return asked


def test_answers_of_other_weights_or_of_another_length_are_none(model, tokenizer, file):
    def known(**how):
        with contextlib.suppress(Killed), journal(file, model, **how) as found:
            count = len(found.known)
            found.add({"a": 1})
            raise Killed
        return count

    assert [known(max_length=8), known(max_length=8), known(max_length=9)] == [0, 1, 0]
    assert known(max_length=9) == 1
    with torch.no_grad():
        next(model.parameters())[0] += 1
    assert known(max_length=9) == 0
    file.write_text("{")
    assert known(max_length=9) == 0


def test_two_evaluations_at_once_do_not_share_a_journal(model, tokenizer, file):
    file.parent.mkdir()
    with FileLock(f"{file}.lock"), journal(file, model) as found:
        assert found is None
        assert len(answered(model, tokenizer, found)[0]) == 16
    assert not file.exists()


def test_an_evaluation_goes_on_where_nothing_can_be_written(model, tokenizer, file, caplog):
    with journal(file, model) as found:
        file.unlink()
        file.mkdir()
        assert len(answered(model, tokenizer, found)[1]) == 20
        file.rmdir()
    assert caplog.text.count("could not be gone on with") == 1
