"""What a model associates, in nats: "she" over "he" after an occupation, and a word after a group
over the same word after the other groups of its kind."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.data import Tokenizer
from glam.evaluation.bias.lexicon import (
    GROUPS,
    KINDS,
    PROMPTS,
    SENTENCES,
    group_prompts,
    job_sentences,
    jobs,
    meant_items,
    valued_words,
)
from glam.evaluation.bias.log_probabilities import encode, token_log_probabilities
from glam.model import Glam
from glam.model.scaling import scaled_experts

OCCUPATIONS = "occupations"
Floats = NDArray[np.float64]
Encoded = list[tuple[list[int], int]]


@dataclass(frozen=True, eq=False)
class Probe:
    """Sentences in tokens, measured again and again with other experts left out. `sides` are those
    of the units of every association: 1/2 or -1/2."""

    encoded: Encoded
    padding: int
    sides: dict[str, Floats]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Probe":
        texts = [("", text) for _, _, text in job_sentences()]
        words = [word for word, _ in valued_words()]
        texts += [(prompt, " " + word) for _, prompt in group_prompts() for word in words]
        of_words = np.array([side for _, side in valued_words()])
        sides = {OCCUPATIONS: np.array([side for _, side in jobs()])}
        for kind in KINDS:
            groups = [group.name for group in GROUPS if group.kind == kind]
            # Of two groups the second's contrast is the first's, turned round.
            sides |= {f"{kind}/{name}": of_words for name in groups[len(groups) == 2 :]}
        return cls([encode(tokenizer, text) for text in texts], tokenizer.eos, sides)

    def values(self, model: Glam) -> dict[str, Floats]:
        """The number of every unit `[U]`, by association."""
        nats = token_log_probabilities(model, self.encoded, self.padding)
        of_jobs = len(jobs()) * len(SENTENCES) * 2
        by_pronoun = nats[:of_jobs].reshape(-1, len(SENTENCES), 2).mean(1)
        found = {OCCUPATIONS: by_pronoun[:, 1] - by_pronoun[:, 0]}
        shape = (len(GROUPS), len(PROMPTS), len(valued_words()))
        of_groups = nats[of_jobs:].reshape(shape).mean(1)
        for place, group in enumerate(GROUPS):
            if (name := f"{group.kind}/{group.name}") in self.sides:
                others = [
                    i for i, one in enumerate(GROUPS) if one.kind == group.kind and i != place
                ]
                found[name] = of_groups[place] - of_groups[others].mean(0)
        return found


def without_each(model: Glam, experts: Iterable[tuple[int, int]]) -> Generator[tuple[int, int]]:
    """Each expert, with the model as it is without that one."""
    for expert in experts:
        with scaled_experts(model, {expert: 0.0}):
            yield expert


def experts_in(model: Glam) -> list[tuple[int, int]]:
    """Layer and expert of every expert."""
    config = model.config
    layers = [layer for layer in range(config.num_layers) if config.is_moe_layer(layer)]
    return [(layer, expert) for layer in layers for expert in range(config.num_experts)]


def coreference(model: Glam, tokenizer: Tokenizer) -> dict[str, Sequence[float]]:
    """By pronoun, whether the model finds the one who is meant likelier than the other, each after
    the sentence over each without it: 1 or 0 of every item, and the items of all pronouns in one
    order."""
    items = meant_items()
    texts = [
        pair for _, prompt, *ends in items for end in ends for pair in ((prompt, end), ("", end))
    ]
    encoded = [encode(tokenizer, text) for text in texts]
    nats = token_log_probabilities(model, encoded, tokenizer.eos).reshape(-1, 2, 2)
    gain = nats[:, :, 0] - nats[:, :, 1]  # what the sentence adds: some names are likelier anyway
    right = (gain[:, 0] > gain[:, 1]).astype(float)
    found: dict[str, list[float]] = {}
    for (pronoun, *_), one in zip(items, right.tolist(), strict=True):
        found.setdefault(pronoun, []).append(one)
    return dict(found)
