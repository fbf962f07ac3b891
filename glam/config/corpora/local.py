"""The user's own text."""

from dataclasses import dataclass, field

from glam.config._checks import not_in_identity, within, words
from glam.config.corpora.base import CORPORA, MAX_BAD_SHARE, CorpusConfig


@CORPORA.register
@dataclass(kw_only=True)
class LocalCorpusConfig(CorpusConfig):
    """Your own text: files, folders or globs of `.parquet`, `.csv`, `.tsv`, `.json`, `.jsonl`,
    `.txt` and `.wet`, each also `.gz` and `.zst`. A file's name, a folder's or a field names the
    domain (docs/own-text.md). Read by `glam.data.local`."""

    name: str = "local"
    # web-like text, from which the quality filter selects: [files, folders, globs]
    files: list[str] = field(default_factory=lambda: [])
    # text of good quality, the filter's positive examples: [files, folders, globs]
    curated: list[str] = field(default_factory=lambda: [])
    # text that is only evaluated on: [files, folders, globs]
    held_out: list[str] = field(default_factory=lambda: [])
    text_field: str = "text"  # field or column that holds the text; doc.text lies within doc
    # field or column that names a record's domain; null: its file or folder does
    domain_field: str | None = None
    # field or column that holds a published quality score of web-like text
    score_field: str | None = None
    max_record_megabytes: float = 16.0  # [MB] longer lines and documents are bad records
    # [share] of a domain's records that may be bad; with more, the text is refused
    max_bad_share: float = not_in_identity(MAX_BAD_SHARE)

    def __post_init__(self) -> None:
        words("data.corpus.", self, "files", "curated", "held_out")
        within("data.corpus.", self, 0, 1, "max_bad_share")
        within("data.corpus.", self, 0.001, 1024, "max_record_megabytes")

    @property
    def has_scores(self) -> bool:
        return self.score_field is not None
