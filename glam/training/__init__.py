"""Training by Lightning: a run goes on from wherever it stands, bit for bit."""

from glam.training.metrics_later import put_off_metrics

put_off_metrics()

from glam.training.fit import TrainingResult, train  # noqa: E402 - imports Lightning

__all__ = ["TrainingResult", "train"]
