"""The stages of preparation, each cached under a hash of what determines it.

    source --read--> shards --copies, sides--> pages --samples--> tokenizer, classifier
                              pages --score--> scores --counts--> ranks --encode--> tokens

What is done shard by shard is done by an executor, and depends on the shard and on what is named in
its key alone. What joins shards (copies, sides, samples, ranks) holds nothing of each document of
the whole corpus in memory. A filter of a small pool is only a list of kept pages over tokens that
are encoded once, so filtered and unfiltered runs share documents, tokenizer and tokens, and their
losses compare.
"""

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from glam.config import DataConfig, Role
from glam.data import judging
from glam.data import pages as paging
from glam.data import tokenizer as tokenizing
from glam.data import tokens as encoding
from glam.data.classifier import SAMPLE, Classifier
from glam.data.classifier_file import FOLDER, TrainedOn, fingerprint, given_classifier
from glam.data.divided import DividedText
from glam.data.encode import Choice, write_tokens
from glam.data.executor import StageTask, run_stage
from glam.data.given_tokenizer import VERSION as GIVEN_VERSION
from glam.data.given_tokenizer import given_model, import_tokenizer
from glam.data.hashing import file_digest
from glam.data.pages import Pages
from glam.data.quality import VERSION as QUALITY_VERSION
from glam.data.quality import Quality
from glam.data.sample import lowest
from glam.data.shards import SHARD_BYTES
from glam.data.sources import trains_classifier
from glam.data.tokens import join_encoded
from glam.errors import UserError
from glam.progress import bar

Removal = Callable[["Pipeline"], dict[int, Path]]


class Pipeline(DividedText):
    """Every stage by name, made on first use and at most once."""

    def __init__(
        self,
        data: DataConfig,
        vocab_size: int,
        cache: Path,
        tokenizer: tokenizing.Tokenizer | None = None,
        removal: Removal | None = None,
    ) -> None:
        super().__init__(data, cache)
        self.vocab_size, self._given = vocab_size, tokenizer
        self._removal = removal

    @property
    def is_large(self) -> bool:
        """Whether the pool is larger than a shard: only pages that are kept are encoded then."""
        pool = self.index.of_role("pool")
        return sum(self.index.shards[place].bytes for place in pool) > SHARD_BYTES

    @property
    def is_cached(self) -> bool:
        """Whether nothing is left to make: every stage that a run reads is in the cache."""
        holds = self.cache.holds
        if not holds("index", self._index_inputs) or not holds("funnel", self._funnel_inputs):
            return False
        return (
            (self._given is not None or holds("tokenizer", self._tokenizer_inputs))
            and (not self.filters or holds("ranks", self._classifier_inputs))
            and all(holds("scores", self._scores_inputs(i)) for i in self._scored_again)
            and all(holds("tokens", self._tokens_inputs(i)) for i in self._places)
            and all(holds("held_out", self._held_out_inputs(i)) for i in self._joined)
        )

    def run(self, meanwhile: Callable[[], object] | None = None) -> None:
        """Make tokenizer and scores, side by side: SentencePiece holds no Python lock; then what
        follows from both. `meanwhile` is done beside a tokenizer that is learnt."""
        background, learns = ThreadPoolExecutor(1), self._learns_a_tokenizer
        try:
            if self.data.tokenizer is not None:
                _ = self.tokenizer  # before any text is read: it may be refused
            elif learns:
                _ = self.pages  # once, before two stages ask for it
            tokenizer = background.submit(lambda: self.tokenizer)
            if self.filters:
                _ = self.ranks
            if learns and meanwhile is not None:
                meanwhile()
            _await("tokenizer", tokenizer)
        finally:
            background.shutdown(wait=False)  # Ctrl-C does not wait for SentencePiece
        _ = self.tokens, self.funnel
        self.digests.save()

    # ---- tokenizer

    @property
    def _learns_a_tokenizer(self) -> bool:
        """Whether there is none yet, neither given nor in the cache."""
        given = self._given is not None or self.data.tokenizer is not None
        return not given and not self.cache.holds("tokenizer", self._tokenizer_inputs)

    @cached_property
    def tokenizer(self) -> tokenizing.Tokenizer:
        if self._given is not None:
            return self._given
        folder = self.cache.stage("tokenizer", self._tokenizer_inputs, self._make_tokenizer)
        tokenizer = tokenizing.Tokenizer(folder)
        if tokenizer.vocab_size != self.vocab_size:
            raise UserError(
                f"model.vocab_size={self.vocab_size} but data.tokenizer={self.data.tokenizer} has "
                f"{tokenizer.vocab_size} pieces; set model.vocab_size={tokenizer.vocab_size}"
            )
        return tokenizer

    @cached_property
    def _given_model(self) -> Path | None:
        """The file that `data.tokenizer` names."""
        return None if self.data.tokenizer is None else given_model(self.data.tokenizer)

    @property
    def _tokenizer_inputs(self) -> dict[str, Any]:
        if self._given_model is not None:
            return {"version": GIVEN_VERSION, "given": file_digest(self._given_model)}
        return {
            "version": [tokenizing.VERSION, paging.VERSION],
            "text": self.text_key,
            "vocab_size": self.vocab_size,
            "megabytes": self.data.tokenizer_megabytes,
        }

    def _make_tokenizer(self, folder: Path) -> None:
        """From pages of all the training text, whatever the filter keeps; or the given one."""
        if self._given_model is not None:
            return import_tokenizer(self._given_model, folder)
        every, most = list(self.pages.values()), self.data.tokenizer_megabytes * 1e6
        chosen = lowest(every, "tokenizer", self.data.seed, most, in_bytes=True)
        sample = (
            text
            for pages, places in zip(every, chosen, strict=True)
            for text in pages.texts(places)
        )
        return tokenizing.train_tokenizer(folder, sample, self.vocab_size)

    # ---- quality

    def _pages_of(self, role: Role) -> list[Pages]:
        every = self.index.shards
        return [pages for i, pages in self.pages.items() if self._role(every[i]) == role]

    @cached_property
    def given_classifier(self) -> Classifier | None:
        """The one that `data.filter.model` names."""
        return given_classifier(self.data.filter)

    @property
    def _classifier_inputs(self) -> dict[str, Any]:
        config = self.data.filter
        source: Any = [config.num_features, config.ngrams, config.folds]
        if self.given_classifier is not None:
            source = fingerprint(self.given_classifier)
        elif config.scores == "published":
            source = config.scores
        return {
            "version": [QUALITY_VERSION, paging.VERSION],
            "text": self.text_key,
            "classifier": source,
        }

    @cached_property
    def _judge(self) -> Path:
        """The folder of the classifier that learns from this text, or of the one that is given."""
        inputs = self._classifier_inputs
        if self.given_classifier is not None:
            given = partial(judging.write_given, classifier=self.given_classifier)
            return self.cache.stage("classifier", inputs, given)
        if self.cache.holds("classifier", inputs):
            return self.cache.folder("classifier", inputs)
        build = partial(
            judging.write_classifier,
            config=self.data.filter,
            curated=self._pages_of("curated"),
            pool=self._pages_of("pool"),
            seed=self.data.seed,
        )
        task = [StageTask(inputs=inputs, build=build, size=2 * SAMPLE)]
        label = "quality classifier"
        return run_stage(self.executor, self.cache, "classifier", task, label, "pages")[0]

    @property
    def classifier(self) -> Path | None:
        """The folder of the classifier that was trained here, with its card."""
        trained = self.filters and trains_classifier(self.data)
        return self.ranks / FOLDER if trained else None

    def _scores_inputs(self, place: int) -> dict[str, Any]:
        return {**self._classifier_inputs, "shard": self._named(place)}

    @cached_property
    def scores(self) -> dict[int, Path]:
        """The folders of the scores of the pool's pages, by shard."""
        places = self.index.of_role("pool")
        return self._by_shard("scores", places, self._scores_inputs, self._scorer, "scoring pages")

    def _scorer(self, place: int) -> Callable[[Path], None]:
        pages, config = self.pages[place], self.data.filter
        if config.model is not None:
            return partial(judging.write_given_scores, pages=pages, classifier=self._judge)
        if config.scores == "published":
            name = self.index.domains[self.index.shards[place].domain].name
            return partial(
                judging.write_published_scores, pages=pages, shard=self.shards[place], domain=name
            )
        return partial(
            judging.write_scores, pages=pages, classifier=self._judge, seed=self.data.seed
        )

    @cached_property
    def ranks(self) -> Path:
        """The folder of the scores of the whole pool, in counts."""
        return self.cache.stage("ranks", self._classifier_inputs, self._write_ranks)

    def _write_ranks(self, folder: Path) -> None:
        ranks = judging.write_pool_ranks(folder, list(self.scores.values()))
        if trains_classifier(self.data):
            trained_on = self._trained_on()
            judging.write_card(folder, self._judge, ranks, trained_on, self.data.seed)

    def _trained_on(self) -> list[TrainedOn]:
        """The domains that the classifier learnt from, for its card."""
        return [
            TrainedOn(
                source=domain.name,
                role=role,
                documents=self.counts[number]["training"][0],
                pages=self.funnel[number]["pages"][0],
                license=self.sources[domain.source].license,
            )
            for role in ("curated", "pool")
            for number, domain in enumerate(self.index.domains)
            if domain.role == role
        ]

    @property
    def _scored_again(self) -> list[int]:
        """Shards of which a run reads the scores: those of a small pool."""
        return self.index.of_role("pool") if self.filters and not self.is_large else []

    @property
    def auc(self) -> float | None:
        """The area under the ROC curve of a classifier that was trained here."""
        path = self.ranks / judging.QUALITY
        return json.loads(path.read_text())["auc"] if path.exists() else None

    @property
    def quality(self) -> Quality:
        """The scores of a small pool by domain, and the area under the classifier's ROC curve."""
        by_domain: dict[str, list[Any]] = {}
        for i, folder in self.scores.items():
            name = self.index.domains[self.index.shards[i].domain].name
            by_domain.setdefault(name, []).append(np.load(folder / "scores.npy"))
        return Quality({name: np.concatenate(each) for name, each in by_domain.items()}, self.auc)

    def choice(self, place: int) -> Choice:
        """How the filter chooses among a shard's pages."""
        rule, seed = self.data.filter, self.data.seed
        return Choice(scores=self.scores[place], ranks=self.ranks, rule=rule, seed=seed)

    # ---- overlap with evaluation sets

    @cached_property
    def removed(self) -> dict[int, Path]:
        """By shard, a folder that says what of it is left out of training for its overlap, as
        `glam.data.contamination` writes it; none where nothing is."""
        if self._removal is None or not self.data.contamination.remove:
            return {}
        return self._removal(self)

    # ---- tokens

    @cached_property
    def tokens(self) -> dict[int, Path]:
        """The folders of tokens, by shard: `training`, `held_out` and `counts.json`."""
        return self._by_shard(
            "tokens", self._places, self._tokens_inputs, self._encoder, "encoding"
        )

    def _tokens_inputs(self, place: int) -> dict[str, Any]:
        config, shard = self.data.filter, self.index.shards[place]
        chosen = self.filters and self.is_large and self._role(shard) == "pool"
        rule = [config.name, config.alpha, config.threshold, config.calibrate]
        return {
            "version": [encoding.VERSION, paging.VERSION],
            "text": self.text_key,
            "shard": self._named(place),
            "role": self._role(shard),
            "tokenizer": self.tokenizer.fingerprint,
            "kept": [self._classifier_inputs, rule, *self._removed_name(place)] if chosen else None,
        }

    def _removed_name(self, place: int) -> list[str]:
        return [self.removed[place].name] if place in self.removed else []

    def _encoder(self, place: int) -> Callable[[Path], None]:
        is_pool = self._role(self.index.shards[place]) == "pool"
        return partial(
            write_tokens,
            shard=self.shards[place],
            sides=self._side(place),
            tokenizer=self.tokenizer.folder,
            pages=self.pages[place] if is_pool else None,
            choice=self.choice(place) if is_pool and self.filters and self.is_large else None,
            removed=self.removed.get(place),
        )

    def held_out(self, domain: int) -> Path:
        """The folder of a domain's held-out tokens, those of all its shards in one."""
        places = self.index.of_domain(domain)
        if len(places) == 1:
            return self.tokens[places[0]] / "held_out"
        return self.cache.stage(
            "held_out",
            self._held_out_inputs(domain),
            lambda folder: join_encoded(folder, [self.tokens[i] / "held_out" for i in places]),
        )

    def _held_out_inputs(self, domain: int) -> dict[str, Any]:
        return {"shards": [self._tokens_inputs(i) for i in self.index.of_domain(domain)]}

    @property
    def _joined(self) -> list[int]:
        """Domains of several shards."""
        each = range(len(self.index.domains))
        return [domain for domain in each if len(self.index.of_domain(domain)) > 1]


def _await(stage: str, future: "Future[tokenizing.Tokenizer]") -> None:
    """Wait for a stage in the background, under a bar when it takes long."""
    if not wait([future], timeout=1).done:
        with bar(stage, 1, "stage") as running:
            future.result()
            running.advance()
    future.result()
