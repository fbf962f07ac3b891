"""How a trained model is judged: the section `evaluation`."""

from dataclasses import dataclass

from glam.config._checks import positive, within


@dataclass(kw_only=True)
class EvaluationConfig:
    """Held-out loss per domain, on whole documents."""

    tokens_per_domain: int = 60_000  # [tokens] at the end of a run; fewer where a domain has fewer
    points: int = 20  # evaluations during training
    tokens_per_point: int = 4_096  # [tokens] of each domain, in an evaluation during training

    def __post_init__(self) -> None:
        positive("evaluation.", self, "tokens_per_domain", "tokens_per_point")
        within("evaluation.", self, 0, 10_000, "points")
