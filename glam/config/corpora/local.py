"""The user's own text."""

from dataclasses import dataclass, field

from glam.config._checks import words
from glam.config.corpora.base import CORPORA, CorpusConfig


@CORPORA.register
@dataclass(kw_only=True)
class LocalCorpusConfig(CorpusConfig):
    """Your own text: files, folders or globs of `.jsonl` (one document a line), or `.txt` (one
    document a file). The stem of a `.jsonl`, or the folder of a `.txt`, names the domain. Read by
    `glam.data.local`."""

    name: str = "local"
    files: list[str] = field(default_factory=lambda: [])  # web-like text; the filter picks from it
    curated: list[str] = field(default_factory=lambda: [])  # good text: teaches the filter
    held_out: list[str] = field(default_factory=lambda: [])  # evaluated on, never trained on
    text_field: str = "text"  # key of a .jsonl line that holds the document

    def __post_init__(self) -> None:
        words("data.corpus.", self, "files", "curated", "held_out")
