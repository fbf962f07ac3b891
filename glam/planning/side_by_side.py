"""How many runs of a grid this machine trains side by side."""

from collections.abc import Sequence

from glam.config import RunConfig
from glam.machine.resources import num_cores, resolve


def runs_at_once(configs: Sequence[RunConfig]) -> int:
    """As many as the cores of this machine carry, `hardware.max_jobs` at most. A described slice
    trains one run at a time."""
    hardware = configs[0].hardware
    if any(config.hardware.is_described for config in configs):
        return 1
    carried = num_cores() // max(resolve(config).threads for config in configs)
    most = carried if hardware.max_jobs is None else min(carried, hardware.max_jobs)
    return max(1, min(most, len(configs)))
