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
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property, partial
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from glam.config import DataConfig, Role, Source
from glam.data import documents as reading
from glam.data import judging
from glam.data import pages as paging
from glam.data import split as splitting
from glam.data import tokenizer as tokenizing
from glam.data import tokens as encoding
from glam.data.cache import Cache
from glam.data.classifier import Classifier
from glam.data.classifier_file import (
    FOLDER,
    WEIGHTS,
    TrainedOn,
    fingerprint,
    given_classifier,
    write_weights,
)
from glam.data.dedup import VERSION as DEDUP_VERSION
from glam.data.dedup import Signed, write_copies
from glam.data.digests import digests_in
from glam.data.encode import Choice, write_tokens
from glam.data.executor import Executor, StageTask, executor_of, run_stage
from glam.data.executor.pool import LocalExecutor
from glam.data.given_tokenizer import VERSION as GIVEN_VERSION
from glam.data.given_tokenizer import given_model, import_tokenizer
from glam.data.hashing import digest, file_digest
from glam.data.index import Index, ShardEntry, read_index, say_what_was_read, write_index
from glam.data.pages import Pages
from glam.data.quality import VERSION as QUALITY_VERSION
from glam.data.quality import Quality
from glam.data.sample import lowest
from glam.data.scan import VERSION as SCAN_VERSION
from glam.data.shards import SHARD_BYTES
from glam.data.signatures import write_signatures
from glam.data.sources import checked_sources, trains_classifier
from glam.data.tokens import join_encoded
from glam.errors import UserError
from glam.progress import bar

# Of copies the lowest stays.
_PRIORITY = {"held_out": 0, "curated": 1, "unfiltered": 1, "pool": 2}
_FEW_BYTES = 32_000_000  # of files: starting processes would take longer than reading them
_ON_DISK = 1.5  # bytes that are written for each byte that is read


Removal = Callable[["Pipeline"], dict[int, Path]]


class Pipeline:
    """Every stage by name, made on first use and at most once."""

    def __init__(
        self,
        data: DataConfig,
        vocab_size: int,
        cache: Path,
        tokenizer: tokenizing.Tokenizer | None = None,
        removal: Removal | None = None,
    ) -> None:
        self.data, self.vocab_size, self._given = data, vocab_size, tokenizer
        self._removal = removal
        self.sources = checked_sources(data)
        self.digests = digests_in(cache)
        self.units = reading.units_of(self.sources, self.digests)
        self.cache = Cache(cache, needs=100_000_000)
        copies = digest(self._copies_inputs)
        self._split_key = digest([splitting.VERSION, copies, data.held_out_fraction, data.seed])
        # All that determines the text of both sides and its pages.
        self.text_key = digest([self._split_key, paging.VERSION, data.page_characters])

    @property
    def filters(self) -> bool:
        return self.data.filter.name != "none" and any(s.role == "pool" for s in self.sources)

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

    @property
    def has_documents(self) -> bool:
        """Whether all of the text is in the cache, as it was read."""
        return all(self.cache.holds("documents", unit.inputs) for unit in self.units)

    def run(self) -> None:
        """Make tokenizer and scores, side by side: SentencePiece holds no Python lock; then what
        follows from both."""
        background = ThreadPoolExecutor(1)
        try:
            if self.data.tokenizer is not None:
                _ = self.tokenizer  # before any text is read: it may be refused
            elif not self._given and not self.cache.holds("tokenizer", self._tokenizer_inputs):
                _ = self.pages  # once, before two stages ask for it
            tokenizer = background.submit(lambda: self.tokenizer)
            if self.filters:
                _ = self.ranks
            _await("tokenizer", tokenizer)
        finally:
            background.shutdown(wait=False)  # Ctrl-C does not wait for SentencePiece
        _ = self.tokens, self.funnel
        self.digests.save()

    # ---- what is read

    @property
    def _index_inputs(self) -> dict[str, Any]:
        return {
            "version": reading.VERSION,
            "units": [[unit.key, unit.number] for unit in self.units],
        }

    @cached_property
    def index(self) -> Index:
        """Every shard, with its domain and its size."""
        folder = self.cache.stage("index", self._index_inputs, self._write_index)
        return read_index(folder / "index.jsonl", self.sources)

    def _write_index(self, folder: Path) -> None:
        path = folder / "index.jsonl"
        units = [
            (unit.number, unit.key, read) for unit, read in zip(self.units, self._read, strict=True)
        ]
        write_index(path, units)
        say_what_was_read(path, self.sources)

    @cached_property
    def _read(self) -> list[Path]:
        """The folders of all units; those that the cache lacks, or that are damaged, are read."""
        self._check_space()
        tasks = [
            StageTask(
                inputs=unit.inputs,
                build=partial(reading.read_unit, source=unit.source),
                size=unit.size,
            )
            for unit in self.units
        ]
        return run_stage(self.executor, self.cache, "documents", tasks, "reading", "bytes")

    def _check_space(self) -> None:
        missing = [u for u in self.units if not self.cache.folder("documents", u.inputs).exists()]
        needed = int(_ON_DISK * sum(map(reading.unpacked_bytes, missing)))
        self.cache.check_space(needed)

    @cached_property
    def shards(self) -> list[Path]:
        """The folders of all shards, in order, as they were read."""
        return [self._read[shard.unit] / f"{shard.number:05d}" for shard in self.index.shards]

    # ---- which side a document is on

    @cached_property
    def copies(self) -> Path:
        """The folder of copies: `<shard>.npy` says which documents are one."""
        return self.cache.stage("copies", self._copies_inputs, self._write_copies)

    @property
    def _copies_inputs(self) -> dict[str, Any]:
        near = [*self._signature, self.data.dedup.threshold]
        return {
            "version": [DEDUP_VERSION, SCAN_VERSION],
            "units": [
                [unit.key, unit.number, unit.source.role, unit.source.component]
                for unit in self.units
            ],
            "near": near if self.data.removes_near_copies else None,
        }

    @property
    def _signature(self) -> list[int]:
        """What the signatures of documents follow from."""
        return [self.data.dedup.bands, self.data.dedup.rows, self.data.dedup.ngram]

    def _write_copies(self, folder: Path) -> None:
        bands: dict[int, Path] = {}
        if self.data.removes_near_copies:
            bands = {i: each / "bands.npy" for i, each in self._signatures.items()}
        signed = [
            Signed(path / "hashes.npy", bands.get(i), _PRIORITY[self._role(shard)])
            for i, (path, shard) in enumerate(zip(self.shards, self.index.shards, strict=True))
        ]
        write_copies(folder, signed, self.data.dedup)

    @property
    def _signatures(self) -> dict[int, Path]:
        return self._by_shard(
            "signatures",
            self._places,
            self._signatures_inputs,
            lambda place: partial(
                write_signatures, shard=self.shards[place], dedup=self.data.dedup
            ),
            "signing documents",
        )

    def _signatures_inputs(self, place: int) -> dict[str, Any]:
        return {"version": SCAN_VERSION, "shard": self._named(place), "of": self._signature}

    @cached_property
    def sides(self) -> Path:
        """The folder of sides: `<shard>.npy` says which one each document is on."""
        return self.cache.stage("sides", {"split": self._split_key}, self._write_sides)

    def _write_sides(self, folder: Path) -> None:
        divided = [
            splitting.Divided(path, self.copies / f"{place}.npy", shard.domain)
            for place, (path, shard) in enumerate(zip(self.shards, self.index.shards, strict=True))
        ]
        roles: list[Role] = [domain.role for domain in self.index.domains]
        splitting.write_sides(folder, divided, roles, self.data.held_out_fraction, self.data.seed)

    def _side(self, place: int) -> Path:
        return self.sides / f"{place}.npy"

    def side(self, place: int) -> splitting.Sides:
        """Which documents of a shard are on each side."""
        return splitting.Sides.read(self._side(place))

    @cached_property
    def counts(self) -> list[dict[str, list[int]]]:
        """Documents, characters and bytes of each step, by domain."""
        counts: list[dict[str, list[int]]] = json.loads((self.sides / "counts.json").read_text())
        found = {self.units[shard.unit].number for shard in self.index.shards}
        _check_sides(self.sources, found, counts)
        if self.filters and trains_classifier(self.data):
            _check_folds(self.index, counts, self.data.filter.folds)
        return counts

    # ---- pages

    @cached_property
    def pages(self) -> dict[int, Pages]:
        """The training text in pages, by shard."""
        _ = self.counts  # which refuses too little text
        limit = self.data.page_characters
        folders = self._by_shard(
            "pages",
            [i for i in self._places if self._role(self.index.shards[i]) != "held_out"],
            self._pages_inputs,
            lambda place: partial(
                paging.write_pages, shard=self.shards[place], sides=self._side(place), limit=limit
            ),
            "cutting pages",
        )
        return {i: Pages(folder, self.shards[i], limit) for i, folder in folders.items()}

    def _pages_inputs(self, place: int) -> dict[str, Any]:
        return {"version": paging.VERSION, "text": self.text_key, "shard": self._named(place)}

    @cached_property
    def funnel(self) -> list[dict[str, list[int]]]:
        """Documents, characters and bytes of each step before the filter, by domain."""
        folder = self.cache.stage("funnel", self._funnel_inputs, self._write_funnel)
        return json.loads((folder / "funnel.json").read_text())

    @property
    def _funnel_inputs(self) -> dict[str, Any]:
        return {"version": paging.VERSION, "text": self.text_key, **self._index_inputs}

    def _write_funnel(self, folder: Path) -> None:
        counts = [dict(steps) for steps in self.counts]
        for domain, steps in enumerate(counts):
            steps["pages"] = [0, 0, 0]
            for i in self.index.of_domain(domain):
                if i in self.pages:
                    steps["pages"] = list(map(add, steps["pages"], self.pages[i].counts))
        (folder / "funnel.json").write_text(json.dumps(counts))

    # ---- tokenizer

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
        return self.cache.stage("classifier", self._classifier_inputs, self._write_classifier)

    def _write_classifier(self, folder: Path) -> None:
        if self.given_classifier is not None:
            write_weights(folder / WEIGHTS, self.given_classifier)
            return
        curated, pool = self._pages_of("curated"), self._pages_of("pool")
        judging.write_classifier(folder, self.data.filter, curated, pool, self.data.seed)

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
            return partial(judging.write_published_scores, pages=pages, shard=self.shards[place])
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

    # ---- all of them

    @property
    def _places(self) -> range:
        return range(len(self.index.shards))

    def _named(self, place: int) -> list[Any]:
        return self.index.shards[place].inputs

    def _role(self, shard: ShardEntry) -> Role:
        return self.index.domains[shard.domain].role

    @cached_property
    def executor(self) -> Executor:
        if self.data.executor == "local" and sum(u.size for u in self.units) < _FEW_BYTES:
            return LocalExecutor(1)
        return executor_of(self.data, self.cache.root)

    def _by_shard(
        self,
        name: str,
        places: Sequence[int],
        inputs: Callable[[int], dict[str, Any]],
        build: Callable[[int], Callable[[Path], None]],
        label: str,
    ) -> dict[int, Path]:
        """The folders of a stage by shard. `build` is asked for nothing where all are there."""
        every = [inputs(place) for place in places]
        if all(self.cache.holds(name, each) for each in every):
            return {i: self.cache.folder(name, each) for i, each in zip(places, every, strict=True)}
        tasks = [
            StageTask(inputs=each, build=build(i), size=self.index.shards[i].characters)
            for i, each in zip(places, every, strict=True)
        ]
        folders = run_stage(self.executor, self.cache, name, tasks, label, "characters")
        return dict(zip(places, folders, strict=True))


def _await(stage: str, future: "Future[tokenizing.Tokenizer]") -> None:
    """Wait for a stage in the background, under a bar when it takes long."""
    if not wait([future], timeout=1).done:
        with bar(stage, 1, "stage") as running:
            future.result()
            running.advance()
    future.result()


Counts = list[dict[str, list[int]]]


def _check_sides(sources: Sequence[Source], found: set[int], counts: Counts) -> None:
    if not any(each["training"][0] for each in counts):
        raise UserError("data.corpus has no text to train on; every document is empty")
    if not any(each["held out"][0] for each in counts):
        raise UserError(
            "data.corpus has no domain with two documents, so none can be held out; split the "
            "text into several .txt files of a folder, or one document a line of .jsonl"
        )
    for number, source in enumerate(sources):
        if number not in found:
            files = ", ".join(str(path) for path in source.files[:3])
            raise UserError(f"data.corpus: {source.name} has no text ({files}); leave it out")


def _check_folds(index: Index, counts: Counts, folds: int) -> None:
    for role, key in (("curated", "curated"), ("pool", "files")):
        found = sum(
            steps["training"][0]
            for domain, steps in zip(index.domains, counts, strict=True)
            if domain.role == role
        )
        if found < folds:
            raise UserError(
                f"data.filter.folds={folds} needs as many documents to train on from "
                f"data.corpus.{key}, which leaves {found} beside held-out text and its copies; "
                f"give more (one a line of .jsonl, one a .txt), or data=unfiltered"
            )
