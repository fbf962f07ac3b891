"""Evaluation of a trained model: held-out loss, and generated text."""

from glam.evaluation.generation import continue_tokens, generate
from glam.evaluation.held_out import (
    DomainResult,
    evaluate_domains,
    mean_loss,
)
from glam.model.decoding.beam import Beams, LengthPenalty
from glam.model.decoding.sampling import Sampling, UselessWeightsError

__all__ = [
    "Beams",
    "DomainResult",
    "LengthPenalty",
    "Sampling",
    "UselessWeightsError",
    "continue_tokens",
    "evaluate_domains",
    "generate",
    "mean_loss",
]
