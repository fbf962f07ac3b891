"""What a balance loss is, and the registry of balance losses."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from glam.config.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Choices(Protocol):
    """The router's choices for T tokens of E experts, as `glam.model.moe.routing.Routing` has them:
    the k best experts of each token, the best first."""

    @property
    def experts(self) -> "Tensor": ...  # [T, k] integers

    @property
    def gates(self) -> "Tensor": ...  # [T, k]; 0: the choice is not made

    @property
    def probabilities(self) -> "Tensor": ...  # [T, E], softmax of the logits


class BalanceLossConfig:
    """A loss that keeps the experts evenly loaded, of one layer and without its coefficient
    (`model.router.balance_coefficient`). It has a name and no keys."""

    name: ClassVar[str]

    # Whether a bias for each expert balances too: it is added to the logits for the choice of
    # experts alone, has no gradient, and is moved by `model.router.bias_rate` after every step.
    moves_bias: ClassVar[bool] = False

    def __call__(
        self, logits_TE: "Tensor", routing: Choices, mean: "Callable[[Tensor], Tensor]"
    ) -> "Tensor":
        """The scalar loss. `logits_TE` [T, E] are the gate's. `mean` averages over tokens,
        [T, …] -> […]: of the whole batch, also where a process has only some of its tokens, so a
        loss takes means of tokens by it alone. Import torch inside."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__()")


BALANCE_LOSSES: Registry[BalanceLossConfig] = Registry("model.router.balance_loss")
