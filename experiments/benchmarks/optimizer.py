"""One update of a model's parameters: our Adafactor against torch's optimizers."""

from collections.abc import Iterator

import torch
from torch import nn

from experiments.benchmarks.timing import Work, interleaved, peak_bytes
from glam.config import AdafactorConfig, AdamWConfig, ModelConfig
from glam.model import Glam
from glam.training.optimizers import build_optimizer

REFERENCE = "AdamW, fused"
MODELS = {
    "default (1.2 M)": ModelConfig(),
    "L 4 M 256 E 16 (37 M)": ModelConfig(vocab_size=8192, d_model=256, d_ff=1024, num_heads=4),
}


def measure() -> Iterator[dict[str, object]]:
    for name, config in MODELS.items():
        works = {candidate: _update(config, candidate) for candidate in OPTIMIZERS}
        for row in interleaved(works, REFERENCE, rounds=11, label=f"optimizer {name}"):
            memory = peak_bytes(works[str(row["candidate"])]) / 1e6
            yield {"model": name, **row, "temporary_mb": memory}


def _torch_adafactor(model: nn.Module) -> torch.optim.Optimizer:
    # Its default eps is wrong for small gradients: see glam/training/optimizers.py.
    return torch.optim.Adafactor(model.parameters(), eps=(1e-15, 1e-3))


OPTIMIZERS = {
    REFERENCE: lambda model: build_optimizer(AdamWConfig(learning_rate=0.012), model),
    "Adafactor, glam": lambda model: build_optimizer(AdafactorConfig(), model),
    "Adafactor, torch": _torch_adafactor,
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=1e-6),
}


def _update(config: ModelConfig, candidate: str) -> Work:
    model = Glam(config)
    optimizer = OPTIMIZERS[candidate](model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)

    def work() -> None:
        optimizer.step()

    return work
