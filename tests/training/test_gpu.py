import dataclasses

import pytest
import torch
import toy

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
