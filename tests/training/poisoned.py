"""Batches that training goes wrong on."""

from glam.data import TrainStream

RULES = {"spike_window": 8, "rollback_every": 5, "spike_threshold": 6.0}  # for runs of 40 steps


def poison(monkeypatch, *numbers):
    """These batches ask for a token that no text holds: their losses are high, and what is learned
    from them is wrong. Returns the numbers of the batches served, in their order."""
    once, served = TrainStream.batch, []

    def batch(self, index, rows=None):
        found = once(self, index, rows)
        served.append(index)
        if index in numbers:
            found.targets[:] = 0
        return found

    monkeypatch.setattr(TrainStream, "batch", batch)
    return served
