"""The routes of held-out text: those that the evaluation counts, document by document."""

import numpy as np
import pytest
import torch

from glam.analysis.specialisation.claims import find_claims
from glam.analysis.specialisation.labels import Documents, Labels
from glam.config import ModelConfig
from glam.data import PreparedData
from glam.evaluation import evaluate_domains
from glam.evaluation.experts import held_out_routes
from glam.model import Glam
from tests.evaluation.conftest import VOCAB, LetterTokenizer, documents

ROWS = {"sequence_length": 8, "batch_size": 3, "max_tokens": 1000}


@pytest.fixture
def sparse():
    shape = {"num_layers": 4, "d_model": 16, "d_ff": 16, "num_heads": 2, "num_experts": 4}
    model = Glam(ModelConfig(vocab_size=VOCAB, **shape))
    model.initialize(1)
    return model


def test_shares_of_the_choices_are_those_of_the_evaluation(sparse, prepared):
    rows = {**ROWS, "sequence_length": 3}  # no row is padded, which would count as load
    found = held_out_routes(sparse, prepared, **rows)
    assert list(found.experts) == [1, 3]
    domain = np.repeat(found.domains, np.diff(found.offsets))
    for number, result in enumerate(evaluate_domains(sparse, prepared, **rows).values()):
        for place, chosen in enumerate(found.experts.values()):
            counts = np.bincount(chosen[domain == number].flatten(), minlength=4)
            assert counts / counts.sum() == pytest.approx(result.shares[place], abs=1e-6)


def test_every_token_is_there_once_under_its_document(sparse, prepared):
    found = held_out_routes(sparse, prepared, **ROWS)
    assert found.tokens.tolist() == [
        *prepared.held_out["long"].tokens,
        *prepared.held_out["short"].tokens,
    ]
    assert found.offsets.tolist() == [0, 30, 51, 60, 65, 69]
    assert found.domains.tolist() == [0, 0, 0, 1, 1]


def test_a_document_of_which_some_rows_are_left_out_is_one_document(sparse, tokenizer):
    encoded = documents(3, [200, 40])
    prepared = PreparedData("", tokenizer, [], [], {"one": encoded}, [], {})
    found = held_out_routes(sparse, prepared, sequence_length=8, batch_size=3, max_tokens=80)
    assert len(found.tokens) == 80
    assert len(found.offsets) == 3


def test_a_token_goes_where_its_logits_say(sparse, prepared):
    found = held_out_routes(sparse, prepared, **{**ROWS, "sequence_length": 30, "max_tokens": 30})
    seen = {}
    layer = sparse.layers[3]
    layer.ffn_norm.register_forward_hook(lambda m, i, out: seen.update(x=out))
    with torch.no_grad():
        sparse(torch.from_numpy(prepared.held_out["long"].tokens[None, :30].astype(np.int64)))
    logits = seen["x"][0] @ layer.ffn.router.w_ME + layer.ffn.router.bias_E
    assert found.experts[3][:30].tolist() == logits.topk(2).indices.tolist()


@pytest.fixture
def planted(sparse):
    """Layer 1 sends letters above 30 to its expert 2: the embedding says so, and the gate."""
    with torch.no_grad():
        sparse.embedding.w_VM[30:] += 4 * sparse.embedding.w_VM[30]
        direction = sparse.embedding.w_VM[30] / sparse.embedding.w_VM[30].norm()
        sparse.layers[1].ffn.router.w_ME[:, 2] += 8 * direction
    return sparse


def test_a_planted_specialist_of_a_model_is_found(planted):
    texts = {name: documents(seed, [25] * 40) for seed, name in enumerate(("a", "b"))}
    prepared = PreparedData("", LetterTokenizer(), [], [], texts, [], {})
    found = held_out_routes(planted, prepared, **{**ROWS, "sequence_length": 25})
    docs = Documents(found.offsets, found.domains)
    kinds = [
        Labels("class", (found.tokens >= 30).astype(int), ["low", "high"]),
        Labels("domain", found.domains[docs.of_token], found.names, of_documents=True),
    ]
    first = {layer: chosen[:, 0] for layer, chosen in found.experts.items()}
    rng = np.random.default_rng(0)
    claims = find_claims(first, 4, kinds, docs, shuffles=199, rng=rng)
    held = {(one.layer, one.expert, one.label) for one in claims if one.is_found}
    assert (1, 2, "high") in held
    assert not {label for _, _, label in held} & {"a", "b"}
