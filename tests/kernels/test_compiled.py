"""A model with kernels under torch's own tools."""

import subprocess
import sys

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from glam.config import ModelConfig
from glam.model.glam import Glam

pytestmark = pytest.mark.usefixtures("kernels_here")


def model_of(experts: int) -> Glam:
    torch.manual_seed(0)
    shape = {"d_model": 64, "d_ff": 128, "num_heads": 2, "vocab_size": 96}
    return Glam(ModelConfig(num_layers=2, num_experts=experts, **shape)).eval()


TOKENS = torch.arange(64).view(2, 32)


COMPILED = """
import torch
from glam.config import ModelConfig
from glam.model.glam import Glam
torch.manual_seed(0)
shape = dict(num_layers=2, d_model=64, d_ff=128, num_heads=2, vocab_size=96)
for experts in (1, 4):
    model = Glam(ModelConfig(num_experts=experts, **shape)).eval()
    tokens = torch.arange(64).view(2, 32)
    made = torch.compile(model, backend="eager")(tokens)
    for one, same in zip(model(tokens), made, strict=True):
        assert not isinstance(one, torch.Tensor) or torch.equal(one, same)
"""


@pytest.mark.slow
def test_compiled_it_computes_the_same_numbers():
    """A process of its own: beartype, which checks shapes here, and torch.compile do not mix."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", COMPILED], check=True)


@pytest.mark.slow
def test_a_dense_model_is_exported_by_torchs_operators():
    model = model_of(1)
    exported = torch.export.export(model, (TOKENS,)).module()
    torch.testing.assert_close(exported(TOKENS)[0], model(TOKENS)[0], rtol=1e-4, atol=1e-4)


def test_a_profile_names_what_the_kernels_compute():
    model = model_of(4)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        model(TOKENS)
    names = {event.key for event in profiled.key_averages()}
    assert {"RootMeanSquareNorm", "FeedForwardCpuKernel", "RouteKernel"} <= names
