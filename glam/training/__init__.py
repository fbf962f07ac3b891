"""Training by Lightning: a run goes on from wherever it stands, bit for bit."""

from glam.training.fit import TrainingResult, train
from glam.training.loggers import Tracker, open_tracker

__all__ = ["Tracker", "TrainingResult", "open_tracker", "train"]
