"""Text that ships inside installed packages."""

from dataclasses import dataclass, field

from glam.config._checks import words
from glam.config.corpora.base import CORPORA, CorpusConfig


@CORPORA.register
@dataclass(kw_only=True)
class EmbeddedCorpusConfig(CorpusConfig):
    """English text inside installed packages, read by `glam.data.sources`."""

    name: str = "embedded"
    # names of the corpora to read: speeches, scripture, wikipedia, reviews, tweets,
    # conversations, dictionary
    sources: list[str] = field(
        default_factory=lambda: [
            *("speeches", "scripture", "wikipedia", "reviews", "tweets"),
            *("conversations", "dictionary"),
        ]
    )

    def __post_init__(self) -> None:
        words("data.corpus.", self, "sources")

    @property
    def has_scores(self) -> bool:
        return False
