"""The user's own text: `.jsonl` (one document a line) and `.txt` (one document a file)."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from glam.config import LocalCorpusConfig, Role, Source
from glam.data.files import Finder, each_once, without
from glam.errors import UserError, nearest

_KINDS = (".jsonl", ".txt")
_MOST_DOMAINS = 255  # each slot of a batch names its source in a byte


def local_sources(corpus: LocalCorpusConfig) -> list[Source]:
    """One source per domain: the stem of a `.jsonl`, the folder of a `.txt`. Of a file listed more
    than once, `held_out` wins over `curated`, and `curated` over `files`. Raises `UserError` where
    no text to train on is left."""
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
    kinds: tuple[tuple[Role, list[Path], str], ...] = (
        ("curated", curated, "-curated"),
        ("pool", files, "-web"),
        ("held_out", held_out, "-held-out"),
    )
    sources: dict[str, Source] = {}
    for role, paths, suffix in kinds:
        for domain, its in _by_domain(paths).items():
            name = domain
            while name in sources:
                name += suffix
            sources[name] = _source(name, role, its, corpus)
    if len(sources) > _MOST_DOMAINS:
        raise UserError(
            f"data.corpus: {len(sources)} domains, one for each .jsonl and folder of .txt; "
            f"join shards so that at most {_MOST_DOMAINS} are left"
        )
    return list(sources.values())


def _source(name: str, role: Role, paths: Sequence[Path], corpus: LocalCorpusConfig) -> Source:
    field = corpus.text_field

    def read(paths: Sequence[Path]) -> Iterator[str]:
        for path in paths:
            yield from _lines(path, field) if path.suffix == ".jsonl" else (_decoded(path),)

    component = "webpages" if role == "pool" else "books"
    return Source(
        name=name,
        role=role,
        component=component,
        files=tuple(paths),
        reader=read,
        reader_name=f"local:{field}",
    )


def _found(key: str, patterns: Sequence[str]) -> list[Path]:
    """The files that files, folders and globs name, each once."""
    finder, found = Finder(key, _KINDS), list[Path]()
    for pattern in patterns:
        paths = finder.files(pattern) if pattern.strip() else []
        if not paths:
            finder.say_left_out()
            raise UserError(f"{key}: {pattern!r} names no .jsonl or .txt file; {_hint(pattern)}")
        found += paths
    finder.say_left_out()
    return each_once(found)


def _hint(pattern: str) -> str:
    path = Path(pattern).expanduser()
    if path.is_file():
        return "other kinds must be converted first"
    if path.exists() and not path.is_dir():
        return "it is a pipe, a socket or a device, which is not read"
    if path.is_dir():
        return "the folder holds none"
    siblings = [child.name for child in path.parent.glob("*")] if path.parent.is_dir() else []
    where = f"looked in {path.parent.resolve()}"
    return f"{where}; {nearest(path.name, siblings)}" if 0 < len(siblings) < 20 else where


def _by_domain(paths: Sequence[Path]) -> dict[str, list[Path]]:
    domains: dict[str, list[Path]] = {}
    for path in paths:
        name = path.stem if path.suffix == ".jsonl" else path.parent.name
        domains.setdefault(re.sub(r"[^\w.-]+", "_", name) or "text", []).append(path)
    return dict(sorted(domains.items()))


def _decoded(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); convert it first") from error


def _lines(path: Path, field: str) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _text_of(line, field, f"{path}:{number}")


def _text_of(line: bytes, field: str, place: str) -> str:
    try:
        record: Any = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 (byte {error.start} of the line)") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON ({error.msg}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # a number too long, brackets too deep
        raise UserError(f"{place}: not JSON that can be read ({error})") from error
    if not isinstance(record, dict):
        raise UserError(f'{place}: a line must be an object such as {{"{field}": "…"}}')
    fields = cast(dict[str, Any], record)
    if field not in fields:
        raise UserError(
            f"{place}: no field {field!r}, which data.corpus.text_field names; "
            f"{nearest(field, fields)}"
        )
    text = fields[field]
    if not isinstance(text, str):
        raise UserError(f"{place}: {field!r} is {type(text).__name__}, not text")
    return text
