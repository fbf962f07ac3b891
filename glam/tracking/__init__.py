"""Weights & Biases, where it is wanted: offline unless logged in, silent, never in the way.

`logger=csv` and `logger=none` import nothing of it.
"""

from glam.tracking.run import Tracker, open_tracker, track_tasks

__all__ = ["Tracker", "open_tracker", "track_tasks"]
