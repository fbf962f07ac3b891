"""The processes that train one model together, as torchrun's environment describes them. Each has
some rows of every batch; the first one writes all files. No torch."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LOOPBACK = "127.0.0.1"  # this machine, whatever its name is and wherever that leads


class Processes:
    """A single process; `engines.fsdp` has several. These calls are collectives: all processes make
    the same calls in the same order, and each call waits for all."""

    rank, size = 0, 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def part(self) -> int:
        """The number of this process's part of the rows. Processes of one part have the same rows,
        and a part of the model each."""
        return self.rank

    @property
    def parts(self) -> int:
        """How many parts the rows are in."""
        return self.size

    def rows(self, count: int) -> range:
        """This process's part of `count` rows: consecutive, of sizes that differ by at most one."""
        first, last = (count * at // self.parts for at in (self.part, self.part + 1))
        return range(first, last)

    def sum(self, tensor: "Tensor") -> "Tensor":
        """The sum over all parts of the rows, of the same shape; `tensor` is not changed."""
        return tensor

    def total(self, tensor: "Tensor") -> "Tensor":
        """The sum over all processes, those of one part too; `tensor` is not changed."""
        return tensor

    def largest(self, *values: int) -> tuple[int, ...]:
        """The maximum of each value over all processes."""
        return values


SINGLE = Processes()


def under_torchrun() -> bool:
    """Whether torchrun started this process: RANK alone, others set too."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """This process's number, 0 for the first or only one."""
    return int(os.environ["RANK"]) if under_torchrun() else 0


def count() -> int:
    """How many processes train together."""
    return int(os.environ["WORLD_SIZE"]) if under_torchrun() else 1
