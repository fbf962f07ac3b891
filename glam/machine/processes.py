"""The processes that train one model together. Each has some rows of every batch; one of them, the
first, writes what is written. Light: who they are stands in the environment."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Processes:
    """A process that is alone. Where several are, every one of them makes the same calls in the
    same order: each call waits for all."""

    rank, size = 0, 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def rows(self, count: int) -> range:
        """Which of `count` rows are this process's: as even as can be, in order."""
        first, last = (count * at // self.size for at in (self.rank, self.rank + 1))
        return range(first, last)

    def sum(self, tensor: "Tensor") -> "Tensor":
        """Over all processes; `tensor` itself is left as it is."""
        return tensor

    def largest(self, *values: int) -> tuple[int, ...]:
        """Each the largest that any process brings."""
        return values


SINGLE = Processes()


def under_torchrun() -> bool:
    """Whether torchrun started this process: RANK alone, others set too."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Of this process, by the environment that torchrun makes."""
    return int(os.environ["RANK"]) if under_torchrun() else 0


def count() -> int:
    return int(os.environ["WORLD_SIZE"]) if under_torchrun() else 1
