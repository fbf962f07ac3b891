"""What a run costs, from its configuration alone: bytes, joules, and whether this machine can.

Nothing here imports torch, so that a run too large is refused in milliseconds.
"""

from glam.accounting.energy import EnergyMeter

__all__ = ["EnergyMeter"]
