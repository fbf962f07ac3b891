"""Evaluation of a trained model: held-out loss, and generated text."""

from glam.evaluation.generation import UselessWeightsError, generate
from glam.evaluation.held_out import (
    DomainResult,
    evaluate_domains,
    mean_loss,
)

__all__ = ["DomainResult", "UselessWeightsError", "evaluate_domains", "generate", "mean_loss"]
