"""Learning-rate schedules, a file each: keys, ranges and the curve. A file that is added here is
found; `docs/extend.md` shows one."""

from glam.config.registry import import_modules
from glam.config.schedules.base import SCHEDULES, ScheduleConfig

import_modules(__name__, __path__)

__all__ = ["SCHEDULES", "ScheduleConfig"]
