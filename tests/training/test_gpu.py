"""What only a GPU can show. These tests are skipped without one."""

import dataclasses

import pytest
import torch
import toy

from glam.model import Glam
from glam.model.attention.attention import document_mask, plain_attention
from glam.model.attention.position import PositionBias
from glam.model.backend import Backend
from glam.model.fused_layers import FusedLayers
from glam.model.loss import compiled_softmax, plain_losses, token_losses
from glam.training.module import StepBatch
from glam.training.prefetch import OnDevice

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def test_a_run_trains_on_the_gpu_and_is_loaded_from_its_checkpoint(tmp_path):
    resources = dataclasses.replace(toy.RESOURCES, device="cuda", precision="bfloat16")
    first, again = (
        toy.train(toy.config(60), toy.prepared(), toy.folder(tmp_path), resources) for _ in range(2)
    )
    assert first.status == again.status == "done"
    assert first.machine["processor"] == torch.cuda.get_device_name()
    for mine, theirs in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert mine.is_cuda
        assert torch.equal(mine, theirs)


def test_fused_attention_is_the_definition_forward_and_backward():
    from glam.model.attention.flex import document_blocks, flex_bias_attention

    shape, segments = (2, 4, 300, 64), (torch.arange(300, device="cuda") // 90).repeat(2, 1)
    position = PositionBias(4, 32, 128).cuda()
    torch.nn.init.normal_(position.bias_NR)
    qkv = [torch.randn(shape, device="cuda", requires_grad=True) for _ in range(3)]
    inputs, d_y = [*qkv, position.bias_NR], torch.randn(shape, device="cuda")
    q, k, v = qkv
    mask = document_mask(segments, torch.float32)
    expected = plain_attention(q / 8, k, v, position(300), mask)
    wanted = torch.autograd.grad(expected, inputs, d_y)
    narrow = [x.detach().bfloat16().requires_grad_() for x in qkv]
    y = flex_bias_attention(*narrow, position, document_blocks(segments))
    found = torch.autograd.grad(y, [*narrow, position.bias_NR], d_y.bfloat16())
    for mine, theirs in zip([y, *found], [expected, *wanted], strict=True):
        assert (mine.float() - theirs).norm() < 0.03 * theirs.norm()


@pytest.mark.parametrize("experts", [1, 8])
def test_compiled_layers_train_as_layers_do_operator_by_operator(experts):
    sizes = {"d_model": 64, "d_ff": 128, "num_heads": 2, "num_experts": experts, "num_layers": 4}
    config = dataclasses.replace(toy.config().model, **sizes)
    backend = Backend(run_layers=FusedLayers(whole=True))
    compiled, plain = (
        Glam(config, dtype=torch.bfloat16, **one).cuda() for one in ({"backend": backend}, {})
    )
    tokens = torch.randint(64, (2, 256), device="cuda")
    segments = (torch.arange(256, device="cuda") // 100).repeat(2, 1)
    losses = []
    for model in (compiled, plain):
        output = model.loss(tokens, tokens, segments)
        output.loss.backward()
        losses.append(output.loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    for mine, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None and theirs.grad.norm() > 1e-4:
            assert (mine.grad - theirs.grad).norm() < 0.1 * theirs.grad.norm()


def test_a_compiled_softmax_gives_the_losses_of_the_definition():
    x = torch.randn(100, 64, device="cuda", requires_grad=True)
    w = torch.randn(500, 64, device="cuda", requires_grad=True)
    targets = torch.randint(500, (100,), device="cuda")
    found = token_losses(x, w, targets, 30.0, softmax=compiled_softmax())
    wanted = plain_losses(x, w, targets, 30.0)
    torch.testing.assert_close(found.each, wanted.detach(), rtol=1e-3, atol=1e-3)
    gradients = [torch.autograd.grad(one, [x, w]) for one in (found.mean, wanted.mean())]
    for mine, theirs in zip(*gradients, strict=True):
        assert (mine - theirs).norm() < 1e-2 * theirs.norm()


def test_batches_that_were_copied_ahead_are_those_that_came():
    made = [StepBatch(*(torch.full((4, 9), n) for _ in StepBatch._fields)) for n in range(20)]
    for found, batch in zip(OnDevice(iter(made), "cuda"), made, strict=True):
        for mine, theirs in zip(found, batch, strict=True):
            assert mine.is_cuda
            assert torch.equal(mine.cpu(), theirs)
