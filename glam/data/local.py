"""The user's own text: files of the formats of `glam.data.formats`, by domain."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from glam.config import LocalCorpusConfig, Role, Source
from glam.data.domains import Domains
from glam.data.files import Finder, each_once, without
from glam.data.formats import SUFFIXES, Spec, format_of, records
from glam.data.path_list import PathList, strings
from glam.errors import UserError, nearest

_KINDS = ".parquet, .csv, .tsv, .json, .jsonl, .txt and .wet, each also .gz and .zst"


def local_sources(corpus: LocalCorpusConfig) -> list[Source]:
    """One source per domain and role. Of a file listed more than once, `held_out` wins over
    `curated`, and `curated` over `files`. Raises `UserError` where no text to train on is left."""
    held_out = _found("data.corpus.held_out", corpus.held_out)
    curated = without(_found("data.corpus.curated", corpus.curated), held_out)
    files = without(_found("data.corpus.files", corpus.files), [*held_out, *curated])
    if not curated and not files:
        if held_out and (corpus.files or corpus.curated):
            raise UserError(
                f"data.corpus.held_out={list(corpus.held_out)} holds out all the text there is; "
                f"remove the files to train on from it"
            )
        raise UserError(
            "data.corpus.files=[] names no text; set 'data.corpus.files=[folder/*.jsonl]' "
            "or data/corpus=embedded"
        )
    kinds: tuple[tuple[Role, PathList, str], ...] = (
        ("curated", curated, "-curated"),
        ("pool", files, "-web"),
        ("held_out", held_out, "-held-out"),
    )
    domains = Domains([paths for _, paths, _ in kinds])
    sources: dict[str, Source] = {}
    for role, paths, suffix in kinds:
        for domain, its in _by_domain(paths, domains).items():
            name = domain
            while name in sources:
                name += suffix
            sources[name] = _source(name, role, its, corpus)
    return list(sources.values())


def _source(name: str, role: Role, paths: PathList, corpus: LocalCorpusConfig) -> Source:
    spec = Spec(
        text_field=corpus.text_field,
        domain_field=corpus.domain_field,
        score_field=corpus.score_field,
        most_bytes=round(corpus.max_record_megabytes * 1e6),
        demands_all=role == "pool",
        sections=len(paths) == 1 and format_of(paths[0].name) == ".txt",
    )
    return Source(
        name=name,
        role=role,
        component="webpages" if role == "pool" else "books",
        files=paths,
        reader=partial(records, spec=spec),
        reader_name=f"local:{_words(spec)}",
        max_bad_share=corpus.max_bad_share,
    )


def _words(spec: Spec) -> str:
    """What the reader is, in a key. Text that is read as ever keeps its key, so what is as by
    default is left out."""
    other = {
        "domain": spec.domain_field,
        "score": spec.score_field and f"{spec.score_field},{spec.demands_all}",
        "most": None if spec.most_bytes == Spec.most_bytes else spec.most_bytes,
        "sections": spec.sections or None,
    }
    said = [f"{name}={value}" for name, value in other.items() if value is not None]
    return ":".join([spec.text_field, *said])


def _found(key: str, patterns: Sequence[str]) -> PathList:
    """The files that files, folders and globs name, each once."""
    finder, found = Finder(key, SUFFIXES, _KINDS), list[PathList]()
    for pattern in patterns:
        paths = finder.files(pattern) if pattern.strip() else PathList()
        if not paths:
            finder.say_left_out()
            raise UserError(
                f"{key}: {pattern!r} names no file of text ({_KINDS}); {_hint(pattern)}"
            )
        found.append(paths)
    finder.say_left_out()
    # One folder without links names each file once; a look at every file of a million takes long.
    if len(found) == 1 and not finder.followed_links:
        return found[0]
    return each_once(PathList(path for paths in found for path in paths.strings()))


def _hint(pattern: str) -> str:
    path = Path(pattern).expanduser()
    if path.is_file():
        if ".warc" in path.suffixes:
            return "it is a WARC, which holds markup; take the crawl's .wet"
        return "other kinds must be converted first"
    if path.exists() and not path.is_dir():
        return "it is a pipe, a socket or a device, which is not read"
    if path.is_dir():
        return "the folder holds none"
    if "://" in pattern:
        return "it is an address; fetch its files first, or read a data set by data/corpus=hub"
    siblings = [child.name for child in path.parent.glob("*")] if path.parent.is_dir() else []
    where = f"looked in {path.parent.resolve()}"
    return f"{where}; {nearest(path.name, siblings)}" if 0 < len(siblings) < 20 else where


def _by_domain(paths: PathList, domains: Domains) -> dict[str, PathList]:
    found: dict[str, list[str]] = {}
    for path in strings(paths):
        found.setdefault(domains.of(path), []).append(path)
    return {name: PathList(its) for name, its in sorted(found.items())}
