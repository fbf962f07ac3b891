"""What a decoder that keeps keys and values finds, against the whole text anew at every step."""

import pytest
import torch
from tiny_models import VOCAB, model_of

from glam import kernels
from glam.config import RouterConfig
from glam.model import Glam
from glam.model.backend import Backend
from glam.model.decoding.cached_decoder import CachedDecoder
from glam.model.decoding.decoder import GrowingContext
from glam.model.decoding.kernel_decoder import ROWS_AT_ONCE, KernelDecoder
from glam.model.decoding.kernel_weights import kernel_serves

SHAPES = [
    {"num_experts": 4},
    {"num_experts": 4, "normalize": False, "logit_cap": 5.0},
    {"num_experts": 3, "top_k": 3, "moe_every": 1, "num_heads": 3, "d_head": 5},
    {"num_experts": 1},
    {"num_experts": 5, "balance_loss": "loss_free"},
    {"moe_every": 0, "d_model": 20, "d_ff": 272},
]
PROMPTS = [[0, 3, 4], [0, *range(5, 48)] * 3, [2]]  # the longest is beyond the far bucket
ROWS = [2, 0, 2]  # that are kept half way: one twice, one not at all


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def logits_of(decoder, steps=9):
    """After the prompts and each of some steps."""
    tokens = torch.randint(0, VOCAB, (steps, 3), generator=torch.Generator().manual_seed(0))
    found = [decoder.start(PROMPTS).clone()]
    for number, row in enumerate(tokens.tolist()):
        if number == steps // 2:
            decoder.keep(ROWS)
        found.append(decoder.step(row).clone())
    return torch.stack(found)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_float64_kept_keys_and_values_change_nothing(shape):
    model = model_of(torch.float64, **shape)
    exact = logits_of(GrowingContext(model))
    assert exact.dtype == torch.float64
    torch.testing.assert_close(logits_of(CachedDecoder(model)), exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_float32_every_decoder_finds_the_same(shape, kernels_here):
    model = model_of(**shape)
    assert kernel_serves(model)
    exact = logits_of(GrowingContext(model))
    for decoder in (CachedDecoder(model), KernelDecoder(model)):
        torch.testing.assert_close(logits_of(decoder), exact, rtol=1e-5, atol=1e-4)


class RoundsWhatItKeeps(CachedDecoder):
    """Keys and values as a model in bfloat16 has them."""

    def _keep(self, index, k, v):
        return super()._keep(index, k.bfloat16().float(), v.bfloat16().float())


@pytest.mark.parametrize("shape", SHAPES[:1] + SHAPES[3:])
def test_weights_in_bfloat16_are_read_as_they_are(shape, kernels_here):
    model = model_of(**shape)
    for weight in model.parameters():  # what bfloat16 can hold
        weight.data = weight.bfloat16().float()
    exact = logits_of(RoundsWhatItKeeps(model))
    assert (model.to(torch.bfloat16).embedding.w_VM.dtype) == torch.bfloat16
    torch.testing.assert_close(logits_of(KernelDecoder(model)), exact, rtol=1e-4, atol=1e-3)


def computing_in_bfloat16(**shape):
    model = model_of(**shape)
    model.dtype = torch.bfloat16
    return model


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_that_computes_in_bfloat16_decodes_by_weights_rounded_so(shape, kernels_here):
    rounded = model_of(**shape)
    for name, weight in rounded.named_parameters():
        if not name.endswith(("scale_M", "router.w_ME", "_E", "bias_NR")):
            weight.data = weight.bfloat16().float()
    exact = logits_of(RoundsWhatItKeeps(rounded))
    found = logits_of(KernelDecoder(computing_in_bfloat16(**shape)))
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "make_model"),
    [
        (CachedDecoder, model_of),
        (KernelDecoder, model_of),
        (KernelDecoder, computing_in_bfloat16),
    ],
)
def test_a_text_does_not_depend_on_its_batch(make, make_model, kernels_here):
    model = make_model(num_experts=4, d_ff=70)
    together = make(model)
    found = torch.stack([together.start(PROMPTS).clone(), together.step([7, 8, 9]).clone()])
    for row, prompt in enumerate(PROMPTS):
        alone = make(model)
        expected = torch.stack([alone.start([prompt]).clone(), alone.step([7 + row]).clone()])
        torch.testing.assert_close(found[:, row], expected[:, 0], rtol=1e-5, atol=1e-5)
        if make is KernelDecoder:
            assert torch.equal(found[:, row], expected[:, 0])


def test_more_rows_than_a_call_takes_are_decoded_in_several(kernels_here):
    model, rows = model_of(num_experts=4), ROWS_AT_ONCE + 3
    decoder, prompts = KernelDecoder(model), [[0, 2 + row] for row in range(rows)]
    exact = GrowingContext(model)
    decoder.start(prompts), exact.start(prompts)
    tokens = [3] * rows
    torch.testing.assert_close(decoder.step(tokens), exact.step(tokens), rtol=1e-5, atol=1e-4)


def test_a_model_that_wants_one_shape_has_one_for_all_lengths_and_rows():
    model, shapes = model_of(torch.float64, num_experts=4), set()
    wants_one = Glam(model.config, dtype=torch.float64, backend=Backend(one_shape=True))
    wants_one.double().eval().load_state_dict(model.state_dict())
    decoder = GrowingContext(wants_one, length=16)
    wants_one.register_forward_pre_hook(lambda _, inputs: shapes.add(tuple(inputs[0].shape)))
    prompts = [[0, 3, 4], [0, 5], [2]]
    found = [decoder.start(prompts), decoder.step([7, 8, 9])]
    decoder.keep([2])
    found.append(decoder.step([4]))
    assert shapes == {(3, 16)}
    plain = GrowingContext(model)
    expected = [plain.start(prompts), plain.step([7, 8, 9])]
    plain.keep([2])
    expected.append(plain.step([4]))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_model_that_drops_tokens_in_training_drops_none_as_it_writes():
    wasteful = {"num_experts": 4, "capacity_factor": 0.01, "min_capacity": 1}
    model = model_of(torch.float64, dispatcher="capacity", **wasteful)
    dropless = model_of(torch.float64, num_experts=4)
    dropless.load_state_dict(model.state_dict())
    exact = logits_of(GrowingContext(dropless))
    torch.testing.assert_close(logits_of(CachedDecoder(model)), exact, rtol=1e-12, atol=1e-12)
    assert (logits_of(GrowingContext(model)) - exact).abs().max() > 0.1


def test_the_random_policy_of_training_is_off_as_it_writes(kernels_here):
    model = model_of(num_experts=4)
    exact = logits_of(GrowingContext(model))
    model.config.router = RouterConfig(second_policy="random", second_threshold=1e9)
    torch.testing.assert_close(logits_of(KernelDecoder(model)), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("make_model", [model_of, computing_in_bfloat16])
def test_threads_change_nothing(make_model, kernels_here):
    model = make_model(num_experts=4, vocab_size=9000, d_model=32, d_ff=9000, moe_every=2)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            decoder = KernelDecoder(model)
            decoder.start([[0, 3, 4]])
            found.append(decoder.step([5]).clone())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_the_kernel_serves_no_other_type_and_nothing_without_a_compiler():
    assert not kernel_serves(model_of(torch.float64))
    mixed = model_of(num_experts=4)
    mixed.embedding.to(torch.bfloat16)
    assert not kernel_serves(mixed)
    with kernels.switched_off():
        assert not kernel_serves(model_of())
