"""Next-token logits of texts that grow token by token."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from glam.model.compiled import is_compiled
from glam.model.glam import Glam


class Decoder(ABC):
    """Texts side by side, the rows of a batch, each of its own length. Every function returns or
    changes all rows; logits are on the CPU, in float32 at least."""

    @abstractmethod
    def start(self, prompts: Sequence[Sequence[int]], room: int = 0) -> Float[Tensor, "B V"]:
        """Logits after each prompt, which has at least one token. About `room` tokens will follow
        it."""

    @abstractmethod
    def step(self, tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        """Logits after one more token in every row. They may be overwritten by the next step."""

    @abstractmethod
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows in this order; a row may be there several times, or not at all."""


class GrowingContext(Decoder):
    """The definition of decoding: the whole text goes through the model at every step. Serves any
    model on any engine, sharded ones too, where every process takes the same steps.

    Of a model that wants one shape (`Glam.one_shape`) texts are padded to a multiple of `length`,
    and the place of a row that is given up stays.
    """

    def __init__(self, model: Glam, length: int = 1) -> None:
        self.model, self.length = model, length
        self.device = next(model.parameters()).device
        self.texts, self.most = list[list[int]](), 0

    def start(self, prompts: Sequence[Sequence[int]], room: int = 0) -> Float[Tensor, "B V"]:
        self.texts, self.most = [list(prompt) for prompt in prompts], len(prompts)
        return self._logits()

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        for text, token in zip(self.texts, tokens, strict=True):
            text.append(token)
        return self._logits()

    def keep(self, rows: Sequence[int]) -> None:
        self.texts = [list(self.texts[row]) for row in rows]

    def _logits(self) -> Float[Tensor, "B V"]:
        longest = max(len(text) for text in self.texts)
        if self.model.one_shape:
            longest = -(-longest // self.length) * self.length
        # Attention is causal: what stands behind a text is not seen.
        filled = [text + [0] * (longest - len(text)) for text in self.texts]
        if self.model.one_shape:
            self.most = max(self.most, len(filled))
            filled += [filled[0]] * (self.most - len(filled))
        logits = self.model(torch.tensor(filled).to(self.device)).logits
        if is_compiled(self.device):
            logits = logits.cpu()  # an index on the device would be compiled for every length
        last = [len(text) - 1 for text in self.texts]
        return logits[range(len(last)), last].cpu()
