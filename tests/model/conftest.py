"""Models small enough for float64, and gradients by name."""

import pytest
import torch

from glam.config import ModelConfig


@pytest.fixture
def tiny() -> ModelConfig:
    return ModelConfig(
        vocab_size=37, num_layers=2, d_model=16, d_ff=24, num_heads=2, num_experts=4, top_k=2
    )


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def torch_of_gpus():
    """The main environment's torch, which GPUs have too: the TPU environment's 2.9 traces less."""
    if not hasattr(torch.nn.functional, "grouped_mm"):
        pytest.skip("torch has no grouped_mm")
