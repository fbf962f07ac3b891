"""What a schedule is, and the registry of schedules."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from glam.config.registry import Registry


@dataclass(kw_only=True)
class ScheduleConfig(ABC):
    """Keys of a schedule (`schedule.…`), and its curve: a pure function of the step, so that a run
    has nothing of it to save or restore."""

    name: str  # which schedule: a file of conf/schedule

    @abstractmethod
    def factor(self, step: int, num_steps: int) -> float:
        """The learning rate of one step, as a share of `optimizer.learning_rate`.

        `step` is the number of steps before this one (0 to num_steps - 1), of `num_steps` in all.
        """


SCHEDULES: Registry[ScheduleConfig] = Registry("schedule")
