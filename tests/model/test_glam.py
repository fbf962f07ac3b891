import dataclasses

import pytest
import torch

from glam import kernels
from glam.config import ModelConfig, RouterConfig, RunConfig
from glam.errors import UserError
from glam.model import Glam
from glam.model import loss as loss_module
from glam.runs.folder import RunFolder

SHAPES = {
    "sparse": {},
    "twin": {"num_experts": 1},
    "dense": {"moe_every": 0},
    "all_sparse": {"moe_every": 1, "top_k": 1},
    "capacity": {"dispatcher": "capacity", "capacity_factor": 4.0},  # a slot for every token
    "biased": {"router": RouterConfig(balance_loss="loss_free")},
    "by_gate": {"dispatcher": "capacity", "priority": "gate"},  # evaluated without drops
    "wide_heads": {"d_head": 12, "num_layers": 3},
}


def randomized(config: ModelConfig, **options) -> Glam:
    """Position biases start at zero: give them values, so that tests see them."""
    model = Glam(config, **options)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def tokens_of(config: ModelConfig, batch: int = 2, length: int = 19) -> torch.Tensor:
    return torch.randint(config.vocab_size, (batch, length))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_configuration_counts_the_built_parameters(tiny, shape):
    config = dataclasses.replace(tiny, **SHAPES[shape])
    with torch.device("meta"):
        model = Glam(config)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    total = sum(sizes.values()) - config.num_embedding_params
    assert config.num_params == total
    idle = experts * (config.num_experts - config.top_k) // config.num_experts
    assert config.num_active_params == total - (idle if config.is_sparse else 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_later_token_changes_nothing_before_it(tiny, shape):
    config = dataclasses.replace(tiny, **SHAPES[shape])
    model = randomized(config).eval()
    tokens = tokens_of(config)
    changed = tokens.clone()
    changed[:, 11:] = (changed[:, 11:] + 1) % config.vocab_size
    before, after = model(tokens).logits, model(changed).logits
    torch.testing.assert_close(before[:, :11], after[:, :11])
    assert not torch.allclose(before[:, 11:], after[:, 11:])


@pytest.mark.parametrize("shape", ["sparse", "twin"])
def test_a_packed_document_sees_nothing_of_its_neighbours(tiny, shape):
    config = dataclasses.replace(tiny, **SHAPES[shape])
    model = randomized(config)
    tokens = tokens_of(config, 1, 30)
    segments = torch.tensor([[0] * 7 + [1] * 13 + [5] * 10], dtype=torch.int32)
    packed = model(tokens, segments).logits
    for start, end in [(0, 7), (7, 20), (20, 30)]:
        alone = model(tokens[:, start:end]).logits
        torch.testing.assert_close(packed[:, start:end], alone)
    assert not torch.allclose(packed[:, 7:], model(tokens).logits[:, 7:])


@pytest.mark.parametrize("cap", [None, 1.5])
def test_the_loss_is_the_cross_entropy_of_the_logits(tiny, cap):
    config = dataclasses.replace(tiny, logit_cap=cap)
    model, tokens, targets = Glam(config), tokens_of(config), tokens_of(config)
    output, loss = model(tokens), model.loss(tokens, targets)
    expected = -output.logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(loss.token_losses, expected)
    torch.testing.assert_close(loss.balance_loss, output.balance_loss)
    if cap is not None:
        assert output.logits.abs().max() <= cap


def gradients(model: Glam, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = model.loss(tokens, tokens.roll(-1, 1))
    (loss.loss + loss.balance_loss).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_loss_in_chunks_is_the_loss_at_once(tiny, monkeypatch):
    model, tokens = randomized(tiny), tokens_of(tiny)
    whole, losses = gradients(model, tokens), model.loss(tokens, tokens).token_losses
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", 5 * tiny.vocab_size)
    torch.testing.assert_close(gradients(model, tokens), whole)
    torch.testing.assert_close(model.loss(tokens, tokens).token_losses, losses)


@pytest.mark.usefixtures("kernels_here")
@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_and_torchs_operators_learn_the_same(tiny, shape, cap):
    config = dataclasses.replace(tiny, logit_cap=cap, **SHAPES[shape])
    model, tokens = randomized(config), tokens_of(config, 3, 37)
    loss, grads = model.loss(tokens, tokens), gradients(model, tokens)
    with kernels.switched_off():
        torch.testing.assert_close(model.loss(tokens, tokens), loss, rtol=1e-5, atol=1e-6)
        by_operators = gradients(model, tokens)
    for name, grad in by_operators.items():
        assert (grads[name] - grad).norm() < 1e-5 * grad.norm() + 1e-7, name


@pytest.mark.usefixtures("kernels_here")
@pytest.mark.parametrize("shape", SHAPES)
def test_in_bfloat16_kernels_are_no_farther_from_float32(tiny, shape):
    config = dataclasses.replace(tiny, **SHAPES[shape])
    fine, coarse = randomized(config), Glam(config, dtype=torch.bfloat16)
    coarse.load_state_dict(fine.state_dict())
    tokens = tokens_of(config, 3, 37)
    exact = fine.loss(tokens, tokens).token_losses
    ours = (coarse.loss(tokens, tokens).token_losses - exact).norm()
    with kernels.switched_off():
        theirs = (coarse.loss(tokens, tokens).token_losses - exact).norm()
    assert ours < 1.5 * theirs


def test_every_parameter_has_a_gradient(tiny):
    model, tokens = randomized(tiny), tokens_of(tiny)
    grads = gradients(model, tokens)
    assert grads.keys() == dict(model.named_parameters()).keys()
    assert all(grad.any() for grad in grads.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", ["sparse", "capacity", "twin"])
def test_a_second_pass_is_equal_to_the_last_bit(tiny, shape, dtype):
    config = dataclasses.replace(tiny, **SHAPES[shape])
    model, tokens = randomized(config, dtype=dtype), tokens_of(config, 4, 64)
    first, second = gradients(model, tokens), gradients(model, tokens)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("shape", ["sparse", "capacity", "twin"])
def test_rematerializing_changes_nothing(tiny, shape):
    config = dataclasses.replace(tiny, **SHAPES[shape])
    config.router = RouterConfig(second_policy="random", second_threshold=0.9)
    kept, again = randomized(config), randomized(config, rematerialize=True)
    again.load_state_dict(kept.state_dict())
    results = []
    for model in (kept, again):
        torch.manual_seed(3)
        results.append(gradients(model, tokens_of(config)))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_stays_close_to_float32(tiny, shape):
    config = dataclasses.replace(tiny, **SHAPES[shape])
    fine = randomized(config)
    coarse = Glam(config, dtype=torch.bfloat16)
    coarse.load_state_dict(fine.state_dict())
    tokens = tokens_of(config, 4, 32)
    error = (fine(tokens).logits - coarse(tokens).logits).abs()
    assert error.mean() < 0.02  # a near tie sends a token to another expert: no bound on all
    assert coarse(tokens).logits.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in coarse.parameters())
    for name, grad in gradients(coarse, tokens).items():
        other = gradients(fine, tokens)[name]
        assert torch.cosine_similarity(grad.flatten(), other.flatten(), 0) > 0.97, name


def test_dense_weights_are_the_same_for_every_number_of_experts(tiny):
    states = []
    for experts in (1, 4, 8):
        model = Glam(dataclasses.replace(tiny, num_experts=experts))
        model.initialize(7)
        states.append(model.state_dict())
    twin, four, eight = states
    shared = twin.keys() & four.keys()
    assert any("attention" in name for name in shared)
    assert any("w_gate_MH" in name for name in shared)
    assert all(torch.equal(twin[name], four[name]) for name in shared)
    for name in four:
        if ".experts." in name:
            assert torch.equal(four[name], eight[name][:4])
        elif ".router." not in name:
            assert torch.equal(four[name], eight[name])


def test_seeds_names_and_experts_draw_apart(tiny):
    one, other = Glam(tiny), Glam(tiny)
    other.initialize(1)
    drawn = [w for w in one.state_dict().values() if w.dim() > 1 and w.any()]
    firsts = [float(w.flatten()[0]) for w in drawn]
    assert len(set(firsts)) == len(firsts)
    experts = one.layers[1].ffn.experts.w_in_EMH
    assert not torch.equal(experts[0], experts[1])
    assert not torch.equal(one.embedding.w_VM, other.embedding.w_VM)
    other.initialize(0)
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_the_scale_of_initial_weights_is_one_over_the_root_of_their_inputs():
    model = Glam(ModelConfig(d_model=64, d_ff=128, num_experts=4))
    moe = model.layers[1].ffn
    assert float(model.embedding.w_VM.detach().std()) == pytest.approx(64**-0.5, rel=0.05)
    assert float(moe.experts.w_in_EMH.detach().std()) == pytest.approx(64**-0.5, rel=0.05)
    assert float(moe.experts.w_out_EHM.detach().std()) == pytest.approx(128**-0.5, rel=0.05)
    assert float(moe.router.w_ME.detach().std()) < 0.02
    logits = model(tokens_of(model.config, 4, 64)).logits
    assert 0.8 < float(logits.detach().std()) < 1.3


def test_load_and_dropped_have_a_row_for_every_moe_layer(tiny):
    config = dataclasses.replace(tiny, num_layers=5)
    output = Glam(config)(tokens_of(config))
    assert output.load.shape == (2, 4)
    torch.testing.assert_close(output.load.sum(1), torch.ones(2))
    assert output.dropped.tolist() == [0, 0]
    twin = Glam(dataclasses.replace(config, num_experts=1))(tokens_of(config))
    assert twin.load.tolist() == [[1], [1]]
    assert float(twin.balance_loss) == 0
    assert twin.dropped.tolist() == [0, 0]


@pytest.fixture
def save_run(save_weights):
    def save(folder, model: Glam, step: int, whole: bool = True) -> None:
        RunFolder(folder).write_config(RunConfig(model=model.config))
        path = save_weights(folder, model.state_dict(), step)
        if not whole:
            (path / "manifest.json").unlink()

    return save


def test_a_run_is_loaded_from_its_newest_undamaged_checkpoint(tiny, tmp_path, save_run):
    model, tokens = randomized(tiny).eval(), tokens_of(tiny)
    save_run(tmp_path, Glam(tiny), 5)
    save_run(tmp_path, model, 12)
    save_run(tmp_path, Glam(tiny), 20, whole=False)
    loaded = Glam.from_run(tmp_path)
    assert not loaded.training
    torch.testing.assert_close(loaded(tokens), model(tokens))


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tiny, tmp_path, save_run, capsys):
    model, tokens = randomized(tiny).eval(), tokens_of(tiny)
    save_run(tmp_path, model, 5)
    save_run(tmp_path, Glam(tiny), 12)
    weights = tmp_path / "checkpoints" / "step-00000012" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-8:] = b"flipped!"
    weights.write_bytes(content)
    torch.testing.assert_close(Glam.from_run(tmp_path)(tokens), model(tokens))
    assert "step-00000012 is damaged" in capsys.readouterr().err


def test_a_folder_without_a_run_or_a_checkpoint_is_refused(tiny, tmp_path, save_run):
    with pytest.raises(UserError, match=r"no config\.yaml"):
        Glam.from_run(tmp_path)
    save_run(tmp_path, Glam(tiny), 1, whole=False)
    with pytest.raises(UserError, match="no checkpoint"):
        Glam.from_run(tmp_path)
