"""Generates text from a model: token by token, by beam search, and as it is made."""

import math
from collections.abc import Callable, Sequence

from glam.data import Tokenizer
from glam.model import Glam
from glam.model.decoding.beam import Beams
from glam.model.decoding.continue_tokens import continue_tokens
from glam.model.decoding.decoder import Decoder
from glam.model.decoding.sampling import Sampling

__all__ = ["Stream", "continue_tokens", "generate", "text_after"]

TAIL = 16  # tokens of the prompt that the letters of a new token may depend on
CUT = "\N{REPLACEMENT CHARACTER}"  # what a character is decoded to before its last byte is there


def generate(
    model: Glam,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    search: Sampling | Beams,
    *,
    max_tokens: int,
    context: int,
    seconds: float = math.inf,
    on_token: Callable[[int, int], None] = lambda text, token: None,
    decoder: Decoder | None = None,
) -> list[str]:
    """The text that follows each prompt: up to `max_tokens` tokens, the end of the document, or as
    many tokens as `seconds` allow, at least one. `context` is the length trained on. See
    `continue_tokens` for the rest and for the errors."""
    tokens = [[tokenizer.bos, *tokenizer.encode(prompt)] for prompt in prompts]
    new = continue_tokens(
        model,
        tokens,
        max_tokens=max_tokens,
        end=tokenizer.eos,
        search=search,
        on_token=on_token,
        context=context,
        seconds=seconds,
        decoder=decoder,
    )
    return [text_after(tokenizer, *both) for both in zip(tokens, new, strict=True)]


def text_after(tokenizer: Tokenizer, prompt: Sequence[int], new: Sequence[int]) -> str:
    """The text of the tokens `new`. Decoded together with the end of the prompt (which begins with
    the beginning of the document): the leading space of a piece depends on its predecessor."""
    before = prompt[1:][-TAIL:]
    return tokenizer.decode([*before, *new])[len(tokenizer.decode(before)) :]


class Stream:
    """Text that grows by tokens. A character that takes several is held back until it is whole."""

    def __init__(self, tokenizer: Tokenizer, prompt: str) -> None:
        self._tokenizer = tokenizer
        self._before = [tokenizer.bos, *tokenizer.encode(prompt)]
        self._new = list[int]()
        self._told = 0  # characters of the new text

    def add(self, token: int) -> str:
        """What is new to be seen."""
        self._new.append(token)
        text = text_after(self._tokenizer, self._before, self._new)
        whole = text.rstrip(CUT)
        piece, self._told = whole[self._told :], max(self._told, len(whole))
        return piece

    def rest(self) -> str:
        """What was held back, when no token follows."""
        return text_after(self._tokenizer, self._before, self._new)[self._told :]
