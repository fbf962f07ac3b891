"""Training by Lightning: a run goes on from wherever it stands, bit for bit."""

from glam.training.fit import TrainingResult, train

__all__ = ["TrainingResult", "train"]
