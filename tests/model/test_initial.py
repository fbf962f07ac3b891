"""The weights that a run begins with are those of the model it names; of a dense model, experts
that together compute what it computes."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from glam.config import ModelConfig, RouterConfig, RunConfig
from glam.data import Tokenizer
from glam.data.tokenizer import train_tokenizer
from glam.errors import UserError
from glam.export import export_model
from glam.model import Glam
from glam.model.initial import initial_weights
from glam.runs.folder import RunFolder
from glam.runs.record import Record

SPARSE = ModelConfig(
    vocab_size=288, num_layers=4, d_model=16, d_ff=8, num_heads=2, num_experts=8, top_k=2
)
DENSE = replace(SPARSE, num_experts=1)
BIASED = replace(SPARSE, router=RouterConfig(balance_loss="loss_free"))
TEXT = "Thus 7 then 13, and the people of the north went home. " * 3


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, [TEXT, "buy 3 then 9"] * 20, 288)
    return Tokenizer(folder)


def model_of(shape, seed=1):
    model = Glam(shape)
    model.initialize(seed)
    for value in model.parameters():
        if value.dim() == 1:  # as if trained
            value.data += torch.linspace(-0.2, 0.2, len(value))
    return model.eval()


@pytest.fixture
def source(tmp_path, tokenizer):
    """`source(model)`: a folder that it was exported to."""
    pytest.importorskip("tokenizers", reason="not in the XLA environment")

    def make(model):
        folder = tmp_path / "exported"
        config = RunConfig(model=model.config)
        export_model(folder, model, tokenizer, config, Record.read(tmp_path))
        return folder

    return make


def begun(shape, named, **others):
    """A model with the weights that `named` gives it."""
    config = RunConfig(model=replace(shape, init_from=str(named)), **others)
    model = Glam(shape)
    model.load_state_dict(dict(initial_weights(config)))
    return model.eval()


@pytest.mark.parametrize("shape", [SPARSE, BIASED])
def test_an_exported_folder_comes_back_bit_for_bit(source, shape):
    model = model_of(shape)
    again = begun(shape, source(model)).state_dict()
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


def test_a_run_comes_back_bit_for_bit(tmp_path, tokenizer, save_weights):
    run, model = RunFolder(tmp_path / "a-ab12"), model_of(SPARSE)
    run.path.mkdir()
    run.write_config(RunConfig(model=SPARSE))
    tokenizer.copy_to(run.path)
    save_weights(run.path, model.state_dict(), 3)
    run.write_json("summary.json", {"status": "done"})
    again = begun(SPARSE, run.path).state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("dense", "sparse"),
    [
        (DENSE, SPARSE),
        (DENSE, replace(SPARSE, num_experts=6, top_k=4)),
        (replace(DENSE, top_k=1), SPARSE),
        (DENSE, BIASED),
        (DENSE, replace(SPARSE, dispatcher="capacity", capacity_factor=8.0)),
        (replace(DENSE, moe_every=1), replace(SPARSE, moe_every=1, d_ff=4, top_k=4)),
    ],
    ids=[
        "slices",
        "two slices twice",
        "copies",
        "biased choices",
        "capacity without drops",
        "narrower experts",
    ],
)
@torch.no_grad()
def test_a_dense_models_loss_is_that_of_its_experts(source, dense, sparse):
    model = model_of(dense)
    upcycled = begun(sparse, source(model), seed=3)
    tokens = torch.randint(3, 288, (4, 33), generator=torch.Generator().manual_seed(0))
    expected = model.loss(tokens[:, :-1], tokens[:, 1:])
    found = upcycled.loss(tokens[:, :-1], tokens[:, 1:])
    assert float(found.loss) == pytest.approx(float(expected.loss), abs=1e-4)
    assert torch.allclose(found.token_losses, expected.token_losses, atol=1e-4)
    # Not because one expert does all: the new router spreads the tokens.
    assert (found.load.max(-1).values < 0.9).all()


@torch.no_grad()
def test_biases_of_the_choice_begin_at_zero_where_the_source_has_none(source):
    model = model_of(SPARSE)
    folder = source(model)
    again = begun(BIASED, folder)
    tokens = torch.randint(3, 288, (4, 33))
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    weights = initial_weights(RunConfig(model=replace(BIASED, init_from=str(folder))))
    name = "layers.1.ffn.router.bias_of_choice_E"
    assert name in weights
    assert len(weights) == len(list(weights)) == len(again.state_dict())
    assert torch.equal(weights.read(name, {0: range(2, 5)}), torch.zeros(3))


def test_choices_by_a_bias_are_not_gone_on_with_without_it(source):
    folder = source(model_of(BIASED))
    with pytest.raises(UserError, match=r"a bias, which .*=gshard does not have; add model\.r"):
        initial_weights(RunConfig(model=replace(SPARSE, init_from=str(folder))))


def test_a_new_router_is_drawn_by_the_seed_and_by_its_layer(source):
    folder = source(model_of(DENSE))
    routers = [
        begun(SPARSE, folder, seed=seed).layers[layer].ffn.router.w_ME
        for seed, layer in ((0, 1), (1, 1), (0, 3))
    ]
    assert not any(torch.equal(routers[0], other) for other in routers[1:])
    assert torch.equal(routers[0], begun(SPARSE, folder, seed=0).layers[1].ffn.router.w_ME)


def test_a_part_of_the_experts_is_that_part_of_all(source):
    folder = source(model_of(DENSE))
    config = RunConfig(model=replace(SPARSE, init_from=str(folder)))
    weights = initial_weights(config, "model.")
    for name in weights:
        whole = weights[name]
        for dim in range(whole.dim()):
            size = whole.shape[dim]
            wanted = range(size // 3, size - 1)
            part = weights.read(name, {dim: wanted})
            assert torch.equal(part, whole.narrow(dim, wanted.start, len(wanted)))
            assert weights.read(name, {dim: range(size, size)}).shape[dim] == 0
        every = {dim: range(size // 2, size) for dim, size in enumerate(whole.shape)}
        index = tuple(slice(part.start, part.stop) for part in every.values())
        assert torch.equal(weights.read(name, every), whole[index])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda weights: weights.pop("norm.scale_M"), "it has no weight norm.scale_M"),
        (
            lambda weights: weights.update({"norm.scale_M": torch.ones(3)}),
            r"norm.scale_M is \[3\], not \[16\]",
        ),
    ],
)
def test_weights_that_are_absent_or_of_another_shape_are_refused(source, change, reason):
    folder = source(model_of(SPARSE))
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=f"{reason}.*; export it again"):
        initial_weights(RunConfig(model=replace(SPARSE, init_from=str(folder))))


def test_a_run_whose_weights_were_damaged_is_refused(tmp_path, tokenizer, save_weights):
    run = RunFolder(tmp_path / "a-ab12")
    run.path.mkdir()
    run.write_config(RunConfig(model=SPARSE))
    tokenizer.copy_to(run.path)
    saved = save_weights(run.path, model_of(SPARSE).state_dict(), 3)
    run.write_json("summary.json", {"status": "done"})
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model.safetensors is damaged.*bring it back"):
        initial_weights(RunConfig(model=replace(SPARSE, init_from=str(run.path))))
