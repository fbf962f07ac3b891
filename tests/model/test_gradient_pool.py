import gc

import pytest
import torch
from torch import nn

from glam.config import ModelConfig
from glam.model import Glam
from glam.model import gradient_pool as kept
from glam.model.gradient_pool import empty_like_pooled, pooling


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    gc.collect()
    monkeypatch.setattr(kept, "_free", {})


@pytest.fixture
def pool_everything(monkeypatch):
    monkeypatch.setattr(kept, "POOLED_FROM", 1)
    with pooling():
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pooled_tensor_has_the_shape_and_type_of_its_model_and_no_gaps(pool_everything, dtype):
    room = empty_like_pooled(nn.Parameter(torch.zeros(6, 4, 5, dtype=dtype).transpose(1, 2)))
    assert (room.shape, room.dtype, room.is_contiguous()) == ((6, 5, 4), dtype, True)
    assert not room.requires_grad
    assert torch.equal(room.fill_(3), torch.full((6, 5, 4), 3, dtype=dtype))


def test_memory_is_reused_once_its_last_tensor_is_gone(pool_everything):
    like = torch.zeros(1000)
    first, second = empty_like_pooled(like), empty_like_pooled(like)
    assert first.data_ptr() != second.data_ptr()
    place, part = first.data_ptr(), first[10:20]
    del first
    assert empty_like_pooled(like).data_ptr() not in (
        place,
        second.data_ptr(),
    )  # a part is held still
    del part
    assert empty_like_pooled(like).data_ptr() == place


def test_another_size_frees_the_pool(pool_everything):
    empty_like_pooled(torch.zeros(1000))
    assert len(kept._free[4000]) == 1
    other = empty_like_pooled(torch.zeros(2000))
    assert kept._free == {}
    del other
    assert list(kept._free) == [8000]


def test_small_tensors_are_left_to_the_c_library():
    with pooling():
        empty_like_pooled(torch.zeros(100))
        assert kept._free == {}


def test_the_pool_is_empty_after_the_loop(monkeypatch):
    monkeypatch.setattr(kept, "POOLED_FROM", 1)
    like = torch.zeros(1000)
    with pooling():
        with pooling():
            still, gone = empty_like_pooled(like), empty_like_pooled(like)
            del gone
        assert len(kept._free[4000]) == 1
    assert kept._free == {}
    assert torch.equal(still.fill_(2), torch.full((1000,), 2.0))
    del still
    empty_like_pooled(like)
    assert kept._free == {}


def test_other_kinds_of_tensors_are_allocated_by_torch(pool_everything):
    assert empty_like_pooled(torch.zeros(8, device="meta")).is_meta
    assert kept._free == {}


def steps(dtype: torch.dtype, form: dict[str, int]) -> tuple[list[float], list[torch.Tensor], int]:
    """Losses and last gradients of four steps, and how many gradients lie in blocks that are
    lent."""
    model = Glam(ModelConfig(vocab_size=256, num_experts=4, num_layers=4, **form), dtype=dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tokens = torch.randint(0, 256, (2, 33), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(4):
        output = model.loss(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        (output.loss + output.balance_loss).backward()
        optimizer.step()
        losses.append(output.loss.item())
    grads = [p.grad.clone() for p in model.parameters()]
    held = sum(len(blocks) for blocks in kept._free.values())
    del optimizer, output
    model.zero_grad()
    return losses, grads, sum(len(blocks) for blocks in kept._free.values()) - held


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", [{}, {"d_model": 256, "d_ff": 1024, "num_heads": 4}, {"d_ff": 40}])
def test_training_is_the_same_with_gradients_in_the_pool(dtype, form, monkeypatch):
    torch.manual_seed(0)
    with pooling():
        *expected, none = steps(dtype, form)
        monkeypatch.setattr(kept, "POOLED_FROM", 1)
        torch.manual_seed(0)
        *found, lent = steps(dtype, form)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert none == 0
    # Two matrices in each of two layers, where experts are ours: they were not copied.
    assert lent >= 4
