"""Searches for overrides with which a run fits this machine. Every suggestion is a configuration
whose bytes were counted, and are below what the machine has by a margin."""

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from glam.config import AdafactorConfig, ModelConfig, RunConfig
from glam.errors import UserError
from glam.machine.resources import Resources
from glam.planning.changes import Changes, as_typed, changed, is_field, key_of, value_at
from glam.planning.memory import checkpoint_bytes, memory
from glam.planning.paper import PAPER_MODELS, published
from glam.planning.throughput import BACKWARD, tokens_per_hour

MARGIN = 0.85  # of the memory and of the disk; the rest is for the system, as our count is high
VOCABULARY = 32_768  # what the embedded corpora can fill; 256 K pieces need more text
MIN_STEPS = 100  # in the hour: fewer, larger ones would teach nothing
EVALUATION = 0.2  # of the hour
DOMAINS = 7  # of the embedded corpora, to share it


class Suggestion(NamedTuple):
    """A configuration that fits this machine, and its changes to the one that does not."""

    kind: str
    config: RunConfig
    changes: Changes

    def line(self, overrides: Sequence[str]) -> str:
        """The command as typed, with what has to change in its place or at the end."""
        changes = {key: as_typed(key, value) for key, value in self.changes.items()}
        words = [changes.pop(key_of(override), override) for override in overrides]
        return shlex.join(["python", "run.py", *words, *changes.values()])


class Variant(NamedTuple):
    """A configuration, and its changes to the command as typed."""

    config: RunConfig
    changes: Changes

    def with_(self, changes: Changes) -> "Variant":
        return Variant(changed(self.config, changes), self.changes | changes)


class Search:
    """Starts from the command as typed and tries one kind of change after another."""

    def __init__(
        self, config: RunConfig, resources: Resources, overrides: Sequence[str], free_disk: int
    ) -> None:
        self.typed = Variant(config, {})
        self.keys = {key_of(override) for override in overrides}
        self.resources, self.free_disk = resources, free_disk

    def run(self) -> list[Suggestion]:
        """The most similar model that fits, and smaller ones; empty where none fits."""
        same = self._first("the same model", iter([self.typed]))
        same = same or self._first("fewer experts", self._fewer_experts(self.typed))
        same = same or self._first("fewer layers", self._fewer_layers())
        paper = self._first("the paper's next smaller", self._paper_models())
        tiny = self._first("the default model", self._default_model())
        return [found for found in (same, paper, tiny) if found is not None]

    def _first(self, kind: str, variants: Iterator[Variant]) -> Suggestion | None:
        for variant in variants:
            if (fitting := self._squeezed(variant)) is not None:
                return Suggestion(kind, *fitting)
        return None

    def _fewer_experts(self, variant: Variant) -> Iterator[Variant]:
        """The model with half its experts, a quarter, …, down to `top_k + 1`."""
        model = variant.config.model
        fewest, experts = model.top_k + 1, model.num_experts // 2
        while experts > fewest:
            yield variant.with_({"model.num_experts": experts})
            experts //= 2
        if fewest < model.num_experts:
            yield variant.with_({"model.num_experts": fewest})

    def _fewer_layers(self) -> Iterator[Variant]:
        model = self.typed.config.model
        layers = model.num_layers // 2
        while layers >= max(1, model.moe_every):
            variant = self.typed.with_({"model.num_layers": layers})
            yield variant
            yield from self._fewer_experts(variant)
            layers //= 2

    def _paper_models(self) -> Iterator[Variant]:
        """Sparse ones for a sparse model, dense ones for a dense one, the largest first; then the
        smallest with fewer experts."""
        ours = self.typed.config.model
        if published(ours) is None:
            return
        models = [paper.config() for paper in PAPER_MODELS.values()]
        smaller = [m for m in models if m.num_params < ours.num_params and _alike(m, ours)]
        smaller.sort(key=lambda m: -m.num_params)
        for model in smaller:
            yield from self._another_model(model)
        for variant in self._another_model(smaller[-1]) if smaller else ():
            yield from self._fewer_experts(variant)

    def _default_model(self) -> Iterator[Variant]:
        default = RunConfig()
        if self.typed.config.model.name != default.model.name:
            # The paper's models bring their own optimizer, schedule and training; this does not.
            groups = ("optimizer", "schedule", "training")
            brought = {g: getattr(default, g) for g in groups if g not in self.keys}
            yield from self._another_model(default.model, brought)

    def _another_model(
        self, model: ModelConfig, brought: Changes | None = None
    ) -> Iterator[Variant]:
        """`model=<name>` in place of the typed one; keys typed beside it stay as they are."""
        typed = self.typed.config
        if "experiment" in self.keys:  # what its file sets beside the model cannot be told
            return
        config = changed(typed, {"model": model, **(brought or {})})
        kept = {key: value_at(typed, key) for key in self.keys if is_field(typed, key)}
        if all(is_field(config, key) for key in kept):
            try:
                yield Variant(changed(config, kept), {"model": model})
            except UserError:  # what was typed does not go with this model
                return

    def _squeezed(self, variant: Variant) -> Variant | None:
        """The model with the mildest change of its training that fits; None where none does."""
        for rung in self._rungs(variant.config):
            shortened = self._within_the_hour(variant.with_(rung))
            batch = shortened.config.training.batch_size
            while batch >= 1:
                change: Changes = {"training.batch_size": batch}
                if batch == variant.config.training.batch_size:
                    change = {}
                tried = shortened.with_(change)
                if self._fits(tried.config):
                    return tried
                batch //= 2
        return None

    def _rungs(self, config: RunConfig) -> list[Changes]:
        """Ways to train the same model in less memory, the mildest first."""
        again: Changes = {} if config.training.rematerialize else {"training.rematerialize": True}
        factored: Changes = {}
        settings = any(key.startswith("optimizer.") for key in self.keys)
        if not isinstance(config.optimizer, AdafactorConfig) and not settings:
            factored = {"optimizer": AdafactorConfig()}
        rungs: list[Changes] = [{}, again, factored, again | factored]
        return [rung for i, rung in enumerate(rungs) if rung not in rungs[:i]]

    def _fits(self, config: RunConfig) -> bool:
        needed = memory(config, self.resources.precision).total
        return (
            needed <= MARGIN * self.resources.memory_bytes
            and checkpoint_bytes(config) <= MARGIN * self.free_disk
        )

    def _within_the_hour(self, variant: Variant) -> Variant:
        """With a vocabulary that the embedded text is enough for, and as many tokens at most as
        this machine trains and evaluates on in about an hour."""
        if variant.config.model.vocab_size > VOCABULARY:
            variant = variant.with_({"model.vocab_size": VOCABULARY})
        training, evaluation = variant.config.training, variant.config.evaluation
        tokens = tokens_per_hour(variant.config, self.resources)
        changes: Changes = {}
        if training.tokens > (trained := int((1 - EVALUATION) * tokens)):
            changes["training.tokens"] = _rounded(trained)
            rows = max(1, trained // (MIN_STEPS * training.sequence_length))
            if rows < training.batch_size:
                changes["training.batch_size"] = 2 ** (rows.bit_length() - 1)
        scored = int(BACKWARD * EVALUATION * tokens / DOMAINS)  # of each domain
        if evaluation.tokens_per_domain + evaluation.points * evaluation.tokens_per_point > scored:
            changes["evaluation.points"] = 1
            half = _rounded(scored / 2)
            changes["evaluation.tokens_per_domain"] = min(evaluation.tokens_per_domain, half)
            if evaluation.tokens_per_point > half:
                changes["evaluation.tokens_per_point"] = half
        return variant.with_(changes)


def _alike(one: ModelConfig, other: ModelConfig) -> bool:
    return one.is_sparse == other.is_sparse


def _rounded(number: float) -> int:
    """Rounded down to two significant digits."""
    whole = max(1, int(number))
    unit = 10 ** max(0, len(str(whole)) - 2)
    return whole // unit * unit
