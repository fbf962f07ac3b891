"""What a run costs, from its configuration alone: bytes, joules, and whether this machine can.

Nothing here imports torch, so that a run too large is refused in milliseconds.
"""

from glam.accounting.energy import EnergyMeter
from glam.accounting.spending import Spending

__all__ = ["EnergyMeter", "Spending"]
