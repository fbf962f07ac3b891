"""What a trained model is worth, and what it writes."""

from glam.evaluation.generation import generate
from glam.evaluation.held_out import (
    DomainResult,
    evaluate_domains,
    mean_loss,
)

__all__ = ["DomainResult", "evaluate_domains", "generate", "mean_loss"]
