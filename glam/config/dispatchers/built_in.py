"""The dispatchers that `glam.model.moe.dispatch` computes."""

from typing import TYPE_CHECKING, ClassVar

from glam.config.dispatchers.base import DISPATCHERS, DispatcherConfig

if TYPE_CHECKING:
    from glam.config._model import ModelConfig


@DISPATCHERS.register
class Grouped(DispatcherConfig):
    """Dropless: each expert computes the rows that chose it, however many they are."""

    name: ClassVar[str] = "grouped"
    across_processes: ClassVar[bool] = True

    def rows(self, model: "ModelConfig", tokens: int) -> int:
        return model.top_k * tokens


@DISPATCHERS.register
class Capacity(DispatcherConfig):
    """GShard's: every expert has the same number of slots, and what finds none is dropped."""

    name: ClassVar[str] = "capacity"
    static_shapes: ClassVar[bool] = True
    one_hot: ClassVar[bool] = True
    across_processes: ClassVar[bool] = True

    def rows(self, model: "ModelConfig", tokens: int) -> int:
        return model.num_experts * model.slots_per_expert(tokens)
