"""The 29 benchmarks of the paper: `evaluation=glam29`."""

from glam.evaluation.suites.glam29.suite import Glam29

__all__ = ["Glam29"]
