"""Texts that continue a sentence about a group, and the words in them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from glam.data import Tokenizer
from glam.evaluation.bias.lexicon import DESCRIPTIVE, Group, group_prompts
from glam.evaluation.generation import continue_tokens, text_after
from glam.model import Glam
from glam.model.decoding.sampling import Sampling

TOP_P = 0.95
WORD = re.compile(r"[a-z]+")
SENTENCE_END = re.compile(r"[.!?\n]")


@dataclass(frozen=True, eq=False)
class Continuation:
    """A text that continues a prompt about a group; `tokens` are of both, and the text begins at
    `start`."""

    group: Group
    prompt: str
    text: str
    tokens: Sequence[int]
    start: int

    @property
    def words(self) -> list[str]:
        """Adjectives and adverbs in the rest of the sentence, each once."""
        sentence = SENTENCE_END.split(self.text, maxsplit=1)[0].lower()
        return sorted(DESCRIPTIVE & set(WORD.findall(sentence)))


def continuations(
    model: Glam, tokenizer: Tokenizer, *, samples: int, max_tokens: int, seed: int, context: int
) -> list[Continuation]:
    """`samples` texts after each prompt, drawn at temperature 1 from the nucleus TOP_P."""
    prompts = [one for one in group_prompts() for _ in range(samples)]
    begun = [[tokenizer.bos, *tokenizer.encode(prompt)] for _, prompt in prompts]
    written = continue_tokens(
        model,
        begun,
        max_tokens=max_tokens,
        end=tokenizer.eos,
        search=Sampling(1.0, TOP_P, seed),
        context=context,
    )
    return [
        Continuation(
            group, prompt, text_after(tokenizer, before, new), [*before, *new], len(before)
        )
        for (group, prompt), before, new in zip(prompts, begun, written, strict=True)
    ]
