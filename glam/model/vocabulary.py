"""What a model does with the weight of its vocabulary, which embeds tokens and makes logits. An
engine whose processes have a part of it each replaces this."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from glam.model.loss import (
    LossSplit,
    Softmax,
    TokenLosses,
    output_logits,
    softmax_losses,
    token_losses,
)


class Vocabulary:
    """The vocabulary in one piece. `softmax` is what a GPU turns logits into losses with."""

    def __init__(self, softmax: Softmax = softmax_losses) -> None:
        self._softmax = softmax

    def embed(
        self, tokens: Int[Tensor, "B S"], w_VM: Float[Tensor, "V M"]
    ) -> Float[Tensor, "B S M"]:
        """The row of every token."""
        return functional.embedding(tokens, w_VM)

    def logits(
        self, x: Float[Tensor, "T M"], w_VM: Float[Tensor, "V M"], cap: float | None
    ) -> Float[Tensor, "T V"]:
        """As `output_logits`."""
        return output_logits(x, w_VM, cap)

    def losses(
        self,
        x: Float[Tensor, "T M"],
        w_VM: Float[Tensor, "V M"],
        targets: Int[Tensor, "T"],
        cap: float | None,
        split: LossSplit,
    ) -> TokenLosses:
        """As `token_losses`."""
        return token_losses(x, w_VM, targets, cap, split, self._softmax)


IN_ONE_PIECE = Vocabulary()
