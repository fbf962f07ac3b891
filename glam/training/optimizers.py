"""The paper's Adafactor, in place and per expert, and AdamW."""

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from glam.config import AdafactorConfig, AdamWConfig, OptimizerConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    match config:
        case AdafactorConfig():
            return Adafactor(parameters, config)
        case AdamWConfig():
            return torch.optim.AdamW(
                [
                    {"params": [p for p in parameters if decays], "weight_decay": decay}
                    for decay in (config.weight_decay, 0.0)
                ],
                lr=config.learning_rate,
                betas=(config.beta1, config.beta2),
                eps=config.eps,
                fused=True,
            )
        case _:
            raise AssertionError(f"no optimizer for {type(config).__name__}")
