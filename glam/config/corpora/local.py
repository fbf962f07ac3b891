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
    # web-like text, from which the quality filter selects: [files, folders, globs]
    files: list[str] = field(default_factory=lambda: [])
    # text of good quality, the filter's positive examples: [files, folders, globs]
    curated: list[str] = field(default_factory=lambda: [])
    # text that is only evaluated on: [files, folders, globs]
    held_out: list[str] = field(default_factory=lambda: [])
    text_field: str = "text"  # the JSON field of a .jsonl line that holds the text

    def __post_init__(self) -> None:
        words("data.corpus.", self, "files", "curated", "held_out")
