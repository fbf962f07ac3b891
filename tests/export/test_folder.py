"""The exported folder, as Hugging Face's libraries load it, equals the model it was made of."""

import ast
import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from shapes import SPARSE
from torch import Tensor

from glam.config import ModelConfig, RouterConfig
from glam.errors import UserError
from glam.evaluation.generation import continue_tokens
from glam.export import check_free, export_model, folder
from glam.model import Glam
from glam.model.decoding.beam import Beams, LengthPenalty
from glam.model.decoding.sampling import GREEDY
from glam.runs.record import Record

PROMPT = torch.tensor([[1, 40, 50, 60, 70]])
EOS = 2


def loaded(path, dtype=torch.float32):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, dtype=dtype).eval()


@pytest.fixture
def theirs(sparse, modules):
    return loaded(sparse[0])


@pytest.fixture
def ours(sparse):
    return sparse[1]


def in_float64(model):
    wide = Glam(model.config, dtype=torch.float64).double()
    wide.load_state_dict(model.state_dict())
    return wide.eval()


@pytest.mark.parametrize(
    "shape",
    [
        SPARSE,
        replace(SPARSE, num_experts=1),
        replace(SPARSE, router=RouterConfig(balance_loss="loss_free")),
        replace(SPARSE, moe_every=1, router=RouterConfig(normalize=False), top_k=3),
        replace(SPARSE, moe_every=0, d_head=5, logit_cap=3.0, position_max_distance=20),
    ],
    ids=[
        "sparse",
        "dense twin",
        "biased choices",
        "all layers, not normalized",
        "no experts, capped",
    ],
)
@torch.no_grad()
def test_logits_are_those_of_the_model(exported, shape):
    path, model = exported(shape)
    tokens = torch.randint(3, 288, (2, 40))
    for dtype, source, tolerance in (
        (torch.float32, model, 1e-5),
        (torch.float64, in_float64(model), 1e-12),
    ):
        expected, found = source(tokens).logits, loaded(path, dtype)(tokens).logits
        assert found.dtype == dtype
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@torch.no_grad()
def next_log_probabilities(model, tokens) -> Tensor:
    return model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1)


def greedy(model, tokens, new):
    for _ in range(new):
        tokens = [*tokens, int(next_log_probabilities(model, tokens).argmax())]
        if tokens[-1] == EOS:
            break
    return tokens


def test_greedy_text_is_that_of_the_growing_context(ours, theirs):
    expected = greedy(ours, PROMPT[0].tolist(), 30)
    for cache in ("dynamic", "static"):
        asked = {"max_new_tokens": 30, "do_sample": False, "cache_implementation": cache}
        assert theirs.generate(PROMPT, **asked)[0].tolist() == expected


def beams(model, prompt, new, width):
    """Every beam scored by its whole text: the sum of log-probabilities over the length."""
    alive, done = [(0.0, prompt)], []
    for length in range(1, new + 1):
        each = [(s, text, next_log_probabilities(model, text)) for s, text in alive]
        longer = [(s + float(p[t]), [*text, t]) for s, text, p in each for t in range(len(p))]
        longer.sort(key=lambda one: -one[0])
        alive = []
        for score, text in longer[: 2 * width]:
            if text[-1] != EOS:
                alive.append((score, text))
            elif len(alive) < width:
                done.append((score / length, text))
        alive = alive[:width]
    return max(done + [(score / new, text) for score, text in alive])[1]


def test_a_search_by_beams_finds_the_text_that_its_definition_does(ours, theirs):
    asked = {"max_new_tokens": 6, "do_sample": False, "num_beams": 3, "early_stopping": "never"}
    expected = beams(ours, PROMPT[0].tolist(), 6, 3)
    assert theirs.generate(PROMPT, **asked)[0].tolist() == expected


@pytest.mark.parametrize("width", [1, 4])
def test_text_is_that_of_our_own_generation(ours, theirs, width):
    prompts = torch.randint(3, 288, (4, 7), generator=torch.Generator().manual_seed(2))
    search = Beams(width, LengthPenalty(0.6)) if width > 1 else GREEDY
    expected = continue_tokens(ours, prompts.tolist(), max_tokens=12, end=EOS, search=search)
    asked = {"max_new_tokens": 12, "do_sample": False, "num_beams": width}
    for prompt, new in zip(prompts, expected, strict=True):
        found = theirs.generate(prompt[None], length_penalty=0.6, **asked)[0, len(prompt) :]
        assert [token for token in found.tolist() if token != EOS] == new


def test_tokens_are_drawn_from_the_models_probabilities(ours, theirs):
    torch.manual_seed(5)
    found = theirs.generate(PROMPT, max_new_tokens=12, do_sample=True, top_k=0)[0].tolist()
    torch.manual_seed(5)
    expected = PROMPT[0].tolist()
    while len(expected) < len(found):
        drawn = torch.multinomial(next_log_probabilities(ours, expected).exp(), 1)
        expected.append(int(drawn))
    assert found == expected


def test_padding_on_the_left_changes_no_text(theirs):
    padded = torch.cat([torch.full((1, 3), EOS), PROMPT], 1)
    both = torch.cat([padded, torch.randint(3, 288, padded.shape)])
    mask = torch.ones_like(both)
    mask[0, :3] = 0
    asked = {"max_new_tokens": 12, "do_sample": False}
    together = theirs.generate(both, attention_mask=mask, **asked)[0, 3:]
    alone = theirs.generate(PROMPT, **asked)[0]
    assert together[: len(alone)].tolist() == alone.tolist()


def test_gradients_are_those_of_the_model(sparse):
    ours, theirs = in_float64(sparse[1]), loaded(sparse[0], torch.float64)
    tokens = torch.randint(3, 288, (2, 17))
    ours.loss(tokens[:, :-1], tokens[:, 1:]).loss.backward()
    theirs(tokens, labels=tokens).loss.backward()
    found = dict(theirs.named_parameters())
    for name, expected in ours.named_parameters():
        grad = found["embedding.weight" if name == "embedding.w_VM" else name].grad
        # Theirs takes the mean of the loss in float32.
        assert torch.allclose(grad, expected.grad, rtol=1e-5, atol=1e-8), name


def test_what_transformers_saves_it_loads_again(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    again = loaded(tmp_path).state_dict()
    assert all(torch.equal(again[name], value) for name, value in theirs.state_dict().items())


def test_the_code_of_the_model_needs_torch_and_transformers_alone(sparse):
    tree = ast.parse((sparse[0] / "modeling_glam.py").read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == {"math", "torch", "transformers"}


def test_the_code_is_the_same_in_every_folder(sparse):
    own = Path(folder.__file__).with_name("modeling_glam.py").read_bytes()
    assert (sparse[0] / "modeling_glam.py").read_bytes() == own


def test_a_folder_that_is_there_is_refused_and_stays(sparse, tokenizer, described):
    path, model = sparse
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(UserError, match="is there already; name a new folder"):
        check_free(path)
    with pytest.raises(UserError, match="is there already"):
        export_model(path, model, tokenizer, described(SPARSE), Record.read(path))
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_full_disk_leaves_nothing(sparse, tokenizer, described, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder, "write_tokenizer", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        export_model(
            tmp_path / "new", sparse[1], tokenizer, described(SPARSE), Record.read(tmp_path)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_shape_is_exported_by_names_that_mean_nothing_else_to_transformers(sparse, theirs):
    config = theirs.config
    assert config.num_experts_per_tok == SPARSE.top_k
    assert not hasattr(config, "top_k")
    assert isinstance(sparse[1].config, ModelConfig)
    assert (config.hidden_size, config.num_hidden_layers) == (SPARSE.d_model, SPARSE.num_layers)
