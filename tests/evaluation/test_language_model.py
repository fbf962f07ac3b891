"""Under lm-eval our model gives what lm-eval's own Hugging Face backend gives of the exported
folder, and what the definition gives."""

import importlib.util
import random
import sys
from unittest.mock import MagicMock

import pytest
import torch
from lm_eval.api.instance import Instance

from glam.config import ModelConfig, RunConfig, TrainingConfig
from glam.data import Tokenizer
from glam.data.tokenizer import train_tokenizer
from glam.evaluation import language_model
from glam.evaluation.language_model import GlamLM
from glam.evaluation.padded_forward import PaddedForward
from glam.export import export_model
from glam.machine.processes import SINGLE, Processes
from glam.model import Glam
from glam.runs.record import Record

LENGTH = 48  # tokens
WORDS = ["the", "people", "of", "a", "land", "took", "it", "and", "they", "saw", "that", "was"]


def sentence(rng, count):
    return " ".join(rng.choice(WORDS) for _ in range(count))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("tokenizer"), random.Random(0)
    train_tokenizer(folder, [sentence(rng, 30) + ".\n" for _ in range(200)], 300)
    return Tokenizer(folder)


@pytest.fixture(scope="module")
def model(tokenizer):
    shape = ModelConfig(
        vocab_size=300, num_layers=2, d_model=32, d_ff=32, num_heads=2, num_experts=4
    )
    model = Glam(shape)
    model.initialize(1)
    for layer in model.layers:  # which begins as zeros
        torch.nn.init.normal_(layer.attention.position.bias_NR)
    torch.nn.init.normal_(model.embedding.w_VM)  # logits that differ
    return model.eval()


@pytest.fixture
def lm(model, tokenizer):
    return GlamLM(model, tokenizer, max_length=LENGTH, batch_tokens=256)


@pytest.fixture(scope="module")
def exported(model, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    config = RunConfig(model=model.config, training=TrainingConfig(sequence_length=16))
    with pytest.MonkeyPatch.context() as patch:  # which has nothing to say of no run
        patch.setattr("glam.export.folder.model_card", lambda *_: "")
        export_model(folder / "model", model, tokenizer, config, Record.read(folder))
    return folder / "model"


@pytest.fixture(scope="module")
def backend(exported):
    """lm-eval's own, over the exported folder."""
    transformers = pytest.importorskip("transformers")
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("accelerate") is None:
            # It spreads models over devices: imported there, and not asked for on one.
            for name in ("accelerate", "accelerate.utils"):
                patch.setitem(sys.modules, name, MagicMock())
        from lm_eval.models.huggingface import HFLM

    load = {"pretrained_model_name_or_path": str(exported), "trust_remote_code": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(**load).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(**load)

    def make(add_bos_token):
        return HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            max_length=LENGTH,
            batch_size=4,
            add_bos_token=add_bos_token,
        )

    return make


def asked(kind, *args):
    return Instance(kind, {}, args, 0, metadata=("task", 0, 1))


def pairs():
    """Contexts with several continuations, without one, with a space at their end, with nothing
    before, equal ones, and longer ones than the context is."""
    rng = random.Random(1)
    contexts = [sentence(rng, count) for count in (1, 5, 9, 60)] + ["the people ", ""]
    found = [
        asked("loglikelihood", context, " " + sentence(rng, count))
        for context in contexts
        for count in (1, 2, 4)
    ]
    return [*found, found[0]]


def test_log_likelihoods_are_those_of_lm_evals_own_backend(lm, backend):
    theirs = backend(add_bos_token=True).loglikelihood(pairs(), disable_tqdm=True)
    for (nats, is_greedy), (expected, greedy) in zip(
        lm.loglikelihood(pairs()), theirs, strict=True
    ):
        assert nats == pytest.approx(expected, abs=1e-4)
        assert is_greedy == greedy


def by_definition(model, tokens, judged):
    """Nats of the last `judged` tokens."""
    logits = model(torch.tensor([tokens[:-1]])).logits[0].double().log_softmax(-1)
    wanted = torch.tensor(tokens[1:])
    return logits.gather(-1, wanted[:, None])[-judged:].sum().item()


def test_a_log_likelihood_is_that_of_the_continuation_after_its_context(lm, model, tokenizer):
    [found] = lm.loglikelihood([asked("loglikelihood", "the people", " of a land")])
    before, after = tokenizer.encode("the people"), tokenizer.encode(" of a land")
    tokens = [tokenizer.bos, *tokenizer.encode("the people of a land")]
    assert tokens == [tokenizer.bos, *before, *after]
    assert found[0] == pytest.approx(by_definition(model, tokens, len(after)), abs=1e-5)
    assert found.tokens == len(after)


def test_an_empty_answer_is_certain(lm):
    [found] = lm.loglikelihood([asked("loglikelihood", "the people", "")])
    assert (found, found.tokens) == ((0.0, True), 0)


def test_equal_questions_are_computed_once(lm, monkeypatch):
    computed = []
    judge = language_model.judge

    def counted(model, rows, batch_tokens):
        computed.extend(rows)
        return judge(model, rows, batch_tokens)

    monkeypatch.setattr(language_model, "judge", counted)
    found = lm.loglikelihood(pairs() * 3)
    assert len(computed) == len(set(computed)) == len(pairs()) - 1  # which has one twice
    assert found[: len(pairs())] == found[len(pairs()) : 2 * len(pairs())]


class Half(Processes):
    """One of two processes, whose sums are put together by the test."""

    size = 2

    def __init__(self, rank):
        self.rank, self.sums = rank, []

    def sum(self, tensor):
        self.sums.append(tensor)
        return tensor


def test_rows_side_by_side_give_what_shared_prefixes_give(lm, model):
    rows = sorted({lm._row(*lm._encode_pair(*one.args)) for one in pairs() if one.args[0]})
    expected = {
        row: found
        for batch, judged in lm._judged(rows)
        for row, found in zip(batch, judged, strict=True)
    }
    halves = [Half(0), Half(1)]
    with torch.no_grad():
        alone = PaddedForward(model, LENGTH, 200, SINGLE)
        batches = list(alone.batches(rows))
        assert sorted(row for batch in batches for row in batch) == rows
        for batch in batches:
            found = alone.judge(batch)
            for half in halves:
                PaddedForward(model, LENGTH, 200, half).judge(batch)
            together = halves[0].sums[-1] + halves[1].sums[-1]
            assert together.tolist() == [[nats, float(greedy)] for nats, greedy in found]
            for row, (nats, greedy) in zip(batch, found, strict=True):
                assert nats == pytest.approx(expected[row][0], abs=1e-4)
                assert greedy == expected[row][1]


def test_generated_answers_are_those_of_lm_evals_own_backend(lm, backend):
    rng = random.Random(2)
    options = [
        {"until": ["\n", " the"], "max_gen_toks": 12},
        {"until": [], "max_gen_toks": 7, "do_sample": False},
        {"until": ["."], "max_gen_toks": 6, "num_beams": 4, "length_penalty": 0.6},
    ]
    requests = [
        asked("generate_until", sentence(rng, count), chosen)
        for chosen in options
        for count in (1, 3, 7, 7, 60)
    ]
    requests.append(requests[0])
    theirs = backend(add_bos_token=True).generate_until(requests, disable_tqdm=True)
    assert lm.generate_until(requests) == theirs
    assert any(theirs)


def test_whole_texts_are_judged_as_by_lm_evals_own_backend_without_a_second_beginning(
    lm, backend, model, tokenizer
):
    rng = random.Random(3)
    texts = [sentence(rng, count) for count in (1, 8, 120)]
    requests = [asked("loglikelihood_rolling", text) for text in texts]
    ours = lm.loglikelihood_rolling(requests)
    theirs = backend(add_bos_token=False).loglikelihood_rolling(requests, disable_tqdm=True)
    assert ours == pytest.approx(theirs, abs=2e-4)
    for text, found in zip(texts[:2], ours, strict=False):
        tokens = tokenizer.encode(text)
        expected = by_definition(model, [tokenizer.bos, *tokens], len(tokens))
        assert found == pytest.approx(expected, abs=1e-4)
    # With add_bos_token the text has two beginnings, and the second is judged.
    twice = backend(add_bos_token=True).loglikelihood_rolling(requests[:2], disable_tqdm=True)
    for text, found in zip(texts[:2], twice, strict=True):
        tokens = [tokenizer.bos, *tokenizer.encode(text)]
        expected = by_definition(model, [tokenizer.bos, *tokens], len(tokens))
        assert found == pytest.approx(expected, abs=1e-4)
