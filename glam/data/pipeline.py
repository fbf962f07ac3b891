"""The stages of preparation, each cached under a hash of what determines it.

    sources -> documents -> held-out split -> pages -> tokenizer -> tokens
                                                    -> quality -> kept pages

The filter is only a list of kept pages over tokens that are encoded once, so filtered and
unfiltered runs share documents, tokenizer and tokens, and their losses compare.
"""

import json
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from glam.config import DataConfig, Source
from glam.data import pages as paging
from glam.data import split as splitting
from glam.data import tokenizer as tokenizing
from glam.data import tokens as encoding
from glam.data.cache import Cache
from glam.data.classifier import Classifier
from glam.data.classifier_file import FOLDER, fingerprint, given_classifier
from glam.data.documents import Documents, documents_key, store
from glam.data.given_tokenizer import VERSION as GIVEN_VERSION
from glam.data.given_tokenizer import given_model, import_tokenizer
from glam.data.hashing import digest, file_digest, uniform
from glam.data.judging import write_given_quality, write_quality
from glam.data.quality import VERSION as QUALITY_VERSION
from glam.data.quality import Quality, read_quality
from glam.data.sources import EMBEDDED, checked_sources, trains_classifier
from glam.errors import UserError
from glam.progress import bar


class Pipeline:
    """Every stage by name, made on first use and at most once."""

    def __init__(
        self,
        data: DataConfig,
        vocab_size: int,
        cache: Path,
        tokenizer: tokenizing.Tokenizer | None = None,
    ) -> None:
        self.data, self.vocab_size, self._given = data, vocab_size, tokenizer
        self.sources = checked_sources(data)
        size = sum(path.stat().st_size for source in self.sources for path in source.files)
        self.cache = Cache(cache, needs=100_000_000 + 3 * size)
        self._keys = [documents_key(source) for source in self.sources]
        roles = [[key, s.role] for key, s in zip(self._keys, self.sources, strict=True)]
        # All that determines the text of both sides and its pages.
        self.text_key = digest(
            [splitting.VERSION, roles, data.held_out_fraction, data.seed, data.page_characters]
        )

    @property
    def filters(self) -> bool:
        return self.data.filter.name != "none" and any(s.role == "pool" for s in self.sources)

    @property
    def is_cached(self) -> bool:
        """Whether nothing is left to make: every stage that a run reads is in the cache."""
        holds = self.cache.holds
        return (
            (self._given is not None or holds("tokenizer", self._tokenizer_inputs))
            and (not self.filters or holds("quality", self._quality_inputs))
            and all(holds("tokens", self._tokens_inputs(i)) for i in range(len(self.sources)))
        )

    def run(self) -> None:
        """Make tokenizer and scores, side by side: SentencePiece holds no Python lock."""
        background = ThreadPoolExecutor(1)
        try:
            if self.data.tokenizer is not None:
                _ = self.tokenizer  # before any text is read: it may be refused
            elif not self._given and not self.cache.holds("tokenizer", self._tokenizer_inputs):
                _ = self.pages  # once, before two stages ask for it
            tokenizer = background.submit(lambda: self.tokenizer)
            if self.filters:
                _ = self.quality
            _await("tokenizer", tokenizer)
        finally:
            background.shutdown(wait=False)  # Ctrl-C does not wait for SentencePiece

    @cached_property
    def documents(self) -> list[Documents]:
        return [
            store(source, key, self.cache)
            for source, key in zip(self.sources, self._keys, strict=True)
        ]

    @cached_property
    def sides(self) -> list[splitting.Sides]:
        domains = [
            splitting.Domain(source.role, documents.hashes, documents.characters)
            for source, documents in zip(self.sources, self.documents, strict=True)
        ]
        sides = splitting.split(domains, self.data.held_out_fraction, self.data.seed)
        _check_sides(self.sources, self.documents, sides)
        if self.filters and trains_classifier(self.data):
            _check_folds(self.sources, sides, self.data.filter.folds)
        return sides

    @cached_property
    def pages(self) -> list[paging.PagedSource]:
        """The training text of each source in pages."""
        limit = self.data.page_characters
        return [
            paging.paged(
                source.name,
                documents.hashes[side.training],
                partial(documents.texts, side.training),
                limit,
            )
            for source, documents, side in zip(
                self.sources, self.documents, self.sides, strict=True
            )
        ]

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
    def _tokenizer_inputs(self) -> dict[str, object]:
        if self._given_model is not None:
            return {"version": GIVEN_VERSION, "given": file_digest(self._given_model)}
        return {
            "version": [tokenizing.VERSION, paging.VERSION],
            "text": self.text_key,
            "vocab_size": self.vocab_size,
            "megabytes": self.data.tokenizer_megabytes,
        }

    def _make_tokenizer(self, folder: Path) -> None:
        if self._given_model is None:
            tokenizing.train_tokenizer(folder, self._sample(), self.vocab_size)
        else:
            import_tokenizer(self._given_model, folder)

    def _sample(self) -> list[str]:
        """Pages from all the training text, whatever the filter keeps."""
        hashes = np.concatenate([source.hashes for source in self.pages])
        sizes = np.concatenate([source.num_bytes for source in self.pages])
        order = np.argsort(uniform(hashes, self.data.seed, "tokenizer"), kind="stable")
        before = np.cumsum(sizes[order]) - sizes[order]
        chosen = np.zeros(len(hashes), bool)
        chosen[order[before < self.data.tokenizer_megabytes * 1e6]] = True
        every = (page for source in self.pages for page in source.texts())
        return [page for page, wanted in zip(every, chosen, strict=True) if wanted]

    def encoded(self, index: int) -> Path:
        """The folder of a source's tokens: `training`, `held_out` and `counts.json`."""
        return self.cache.stage("tokens", self._tokens_inputs(index), partial(self._encode, index))

    def _tokens_inputs(self, index: int) -> dict[str, object]:
        return {
            "version": [encoding.VERSION, paging.VERSION],
            "text": self.text_key,
            "documents": self._keys[index],
            "role": self.sources[index].role,
            "tokenizer": self.tokenizer.fingerprint,
        }

    def _encode(self, index: int, folder: Path) -> None:
        source, documents, sides = self.sources[index], self.documents[index], self.sides[index]
        # What is trained on as one document: a page of the pool, or a whole curated document.
        training = (
            self.pages[index].texts() if source.role == "pool" else documents.texts(sides.training)
        )
        total = int(documents.characters.sum())
        with bar(f"encode {source.name}", total, "characters") as running:
            encoding.write_encoded(folder / "training", training, self.tokenizer, running)
            held_out = documents.texts(sides.held_out)
            encoding.write_encoded(folder / "held_out", held_out, self.tokenizer, running)
            running.advance(total - running.done)  # duplicates, and white space between pages
        counts = {
            step: [len(chosen), int(documents.characters[chosen].sum())]
            for step, chosen in {
                "read": np.arange(len(documents.hashes)),
                "distinct": np.concatenate([sides.training, sides.held_out]),
                "held out": sides.held_out,
                "training": sides.training,
            }.items()
        }
        (folder / "counts.json").write_text(json.dumps(counts))

    @cached_property
    def quality(self) -> Quality:
        return read_quality(self.cache.stage("quality", self._quality_inputs, self._judge))

    @property
    def _quality_inputs(self) -> dict[str, object]:
        config = self.data.filter
        return {
            "version": [QUALITY_VERSION, paging.VERSION],
            "text": self.text_key,
            "classifier": [config.num_features, config.ngrams, config.folds]
            if self.given_classifier is None
            else fingerprint(self.given_classifier),
        }

    @cached_property
    def given_classifier(self) -> Classifier | None:
        """The one that `data.filter.model` names."""
        return given_classifier(self.data.filter)

    @property
    def classifier(self) -> Path | None:
        """The folder of the classifier that was trained here, with its card."""
        if not self.filters or not trains_classifier(self.data):
            return None
        return self.cache.stage("quality", self._quality_inputs, self._judge) / FOLDER

    def _judge(self, folder: Path) -> None:
        roles = [source.role for source in self.sources]
        curated, pool = (
            [pages for pages, role in zip(self.pages, roles, strict=True) if role == wanted]
            for wanted in ("curated", "pool")
        )
        if self.given_classifier is not None:
            return write_given_quality(folder, self.given_classifier, pool)
        licenses = {row.name: row.license for row in EMBEDDED}
        if self.data.corpus.name != "embedded":
            licenses = {}
        return write_quality(folder, self.data.filter, curated, pool, self.data.seed, licenses)


def _await(stage: str, future: "Future[tokenizing.Tokenizer]") -> None:
    """Wait for a stage in the background, under a bar when it takes long."""
    if not wait([future], timeout=1).done:
        with bar(stage, 1, "stage") as running:
            future.result()
            running.advance()
    future.result()


def _check_sides(
    sources: list[Source], documents: list[Documents], sides: list[splitting.Sides]
) -> None:
    if not any(side.training.size for side in sides):
        raise UserError("data.corpus has no text to train on; every document is empty")
    if not any(side.held_out.size for side in sides):
        raise UserError(
            "data.corpus has no domain with two documents, so none can be held out; split the "
            "text into several .txt files of a folder, or one document a line of .jsonl"
        )
    for source, each in zip(sources, documents, strict=True):
        if not len(each.hashes):
            files = ", ".join(str(path) for path in source.files[:3])
            raise UserError(f"data.corpus: {source.name} has no text ({files}); leave it out")


def _check_folds(sources: list[Source], sides: list[splitting.Sides], folds: int) -> None:
    for role, key in (("curated", "curated"), ("pool", "files")):
        found = sum(
            side.training.size
            for source, side in zip(sources, sides, strict=True)
            if source.role == role
        )
        if found < folds:
            raise UserError(
                f"data.filter.folds={folds} needs as many documents to train on from "
                f"data.corpus.{key}, which leaves {found} beside held-out text and its copies; "
                f"give more (one a line of .jsonl, one a .txt), or data=unfiltered"
            )
