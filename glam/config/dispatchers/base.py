"""What a dispatcher declares, and the registry of dispatchers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from glam.config.balance_losses.base import Choices
from glam.config.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from glam.config._model import ModelConfig


class DispatcherConfig(ABC):
    """A dispatcher's name and declarations; it has no keys of its own."""

    name: ClassVar[str]

    # Whether shapes depend on the configuration alone, not on the router's choices. Compilers need
    # it; `capacity` stands in there for one without it. Plans count memory accordingly.
    static_shapes: ClassVar[bool] = False

    # Whether tokens reach slots by products with one-hot matrices [S, E, C], whose memory and
    # FLOPs plans add.
    one_hot: ClassVar[bool] = False

    # Whether it serves where experts lie in several processes (`glam.engines.expert_parallel`). One
    # of static shapes then gets `experts` that exchange the rows of all processes in equal parts;
    # for another the exchange that drops nothing stands in.
    across_processes: ClassVar[bool] = False

    @abstractmethod
    def rows(self, model: "ModelConfig", tokens: int) -> int:
        """Rows that all experts of a layer compute together, for a sequence of `tokens`."""

    def __call__(
        self,
        x_BSM: "Tensor",
        routing: Choices,
        experts: "Callable[[Tensor], Tensor]",
        model: "ModelConfig",
    ) -> "tuple[Tensor, Tensor]":
        """`(y [B, S, M], share of choices that were dropped [])`: for each token the sum over its
        experts of gate times output. `routing` is of the B * S tokens; `experts` maps [E, rows, M]
        to the same shape, row e by expert e. Import torch inside."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__()")


DISPATCHERS: Registry[DispatcherConfig] = Registry("model.dispatcher")
