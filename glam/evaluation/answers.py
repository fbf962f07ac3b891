"""Answers that a model writes: equal prompts once, and those with the same options side by side."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from glam.data import Tokenizer
from glam.evaluation.generation import text_after
from glam.evaluation.journal import Journal, key_of
from glam.model import Glam
from glam.model.decoding.beam import Beams, LengthPenalty
from glam.model.decoding.continue_tokens import continue_tokens
from glam.model.decoding.sampling import Sampling
from glam.progress import Bar

MOST_NEW_TOKENS = 256  # of an answer, where its task does not say
BATCH = 16  # prompts


@dataclass(frozen=True)
class Options:
    """How answers are written, from lm-eval's `generation_kwargs`. `length_penalty` is Hugging
    Face's, or with `length_penalty_form: gnmt` that of GNMT."""

    until: tuple[str, ...]
    max_tokens: int
    search: Sampling | Beams

    @classmethod
    def of(cls, options: dict[str, Any], max_length: int) -> "Options":
        until: str | list[str] = options.get("until") or []
        wanted = [options.get(name) for name in ("max_gen_toks", "max_new_tokens", "max_tokens")]
        most = next((number for number in wanted if number is not None), MOST_NEW_TOKENS)
        return cls(
            until=tuple(filter(None, [until] if isinstance(until, str) else until)),
            max_tokens=min(most, max_length // 2),  # half of the context is left to the prompt
            search=_search(options),
        )


def _search(options: dict[str, Any]) -> Sampling | Beams:
    width, temperature = options.get("num_beams", 1), options.get("temperature") or 0.0
    if width > 1:
        form = options.get("length_penalty_form", "power")
        return Beams(width, LengthPenalty(options.get("length_penalty", 1.0), form))
    if not options.get("do_sample", temperature > 0):
        return Sampling()
    return Sampling(temperature or 1.0, options.get("top_p", 1.0))


class Answers:
    """Written by a model, in a context of `max_length` tokens. Prompts lose their start where they
    would leave no room for an answer. What the `journal` knows is not written again."""

    def __init__(
        self, model: Glam, tokenizer: Tokenizer, max_length: int, journal: Journal | None = None
    ) -> None:
        self.model, self.tokenizer, self.max_length = model, tokenizer, max_length
        self.journal = journal

    def of(self, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        """Of each `(prompt, options)`, up to the first of its `until`."""
        groups: dict[str, dict[str, list[int]]] = {}  # options, prompt: places
        for n, (prompt, options) in enumerate(requests):
            key = json.dumps(options, sort_keys=True, default=str)
            groups.setdefault(key, {}).setdefault(prompt, []).append(n)
        found = [""] * len(requests)
        with Bar("answers", sum(map(len, groups.values())), "prompts") as bar:
            for key, equal in groups.items():
                first = next(iter(equal.values()))[0]
                options = Options.of(requests[first][1], self.max_length)
                for texts in self._of_equal_options(key, equal, options):
                    for prompt, text in texts.items():
                        for n in equal[prompt]:
                            found[n] = text
                    bar.advance(len(texts))
        return found

    def _of_equal_options(
        self, key: str, prompts: Iterable[str], options: Options
    ) -> Iterator[dict[str, str]]:
        """Texts by their prompts, in batches; first those that are known. Equal draws of equal
        prompts are one draw, so what is drawn may be known too."""
        known = self.journal.known if self.journal is not None else {}
        there = {one: known[place] for one in prompts if (place := key_of(key, one)) in known}
        yield there
        todo = sorted((one for one in prompts if one not in there), key=lambda one: -len(one))
        for start in range(0, len(todo), BATCH):
            batch = todo[start : start + BATCH]
            texts = dict(zip(batch, self._write(batch, options), strict=True))
            if self.journal is not None:
                self.journal.add({key_of(key, one): text for one, text in texts.items()})
            yield texts

    def _write(self, prompts: Sequence[str], options: Options) -> list[str]:
        tokenizer, room = self.tokenizer, self.max_length - options.max_tokens
        tokens = [[tokenizer.bos, *tokenizer.encode(prompt)][-room:] for prompt in prompts]

        def stop(text: int, new: list[int]) -> bool:
            written = text_after(tokenizer, tokens[text], new)
            return any(end in written for end in options.until)

        new = continue_tokens(
            self.model,
            tokens,
            max_tokens=options.max_tokens,
            end=tokenizer.eos,
            search=options.search,
            stop=stop,
            batch_size=BATCH,
            context=self.max_length,
        )
        texts = [text_after(tokenizer, *both) for both in zip(tokens, new, strict=True)]
        return [_up_to(text, options.until) for text in texts]


def _up_to(text: str, until: Sequence[str]) -> str:
    for end in until:
        text = text.split(end)[0]
    return text
