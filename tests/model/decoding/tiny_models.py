"""Models of a few thousand parameters, with weights that make their logits differ."""

import torch

from glam.config import ModelConfig, RouterConfig
from glam.model import Glam

VOCAB, END = 50, 1


def model_of(dtype=torch.float32, *, normalize=True, balance_loss="gshard", **shape) -> Glam:
    whole = {"vocab_size": VOCAB, "num_layers": 2, "d_model": 16, "d_ff": 24, "num_heads": 2}
    router = RouterConfig(normalize=normalize, balance_loss=balance_loss)
    model = Glam(ModelConfig(**whole | shape, router=router))
    generator = torch.Generator().manual_seed(3)
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    model.dtype = dtype
    return model.to(dtype).eval()
