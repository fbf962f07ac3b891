"""Where text comes from and what becomes of it."""

from dataclasses import dataclass, field

from glam.config._checks import positive, within, words
from glam.errors import UserError, one_of

THRESHOLD = 0.875  # of ranks: as many pages as Pareto sampling keeps
COMPONENTS = ("webpages", "wikipedia", "conversations", "forums", "books", "news")


@dataclass(kw_only=True)
class CorpusConfig:
    """Where the text comes from."""

    name: str = "embedded"


@dataclass(kw_only=True)
class EmbeddedCorpusConfig(CorpusConfig):
    """English text that ships inside installed packages; each name is a source in
    `glam/data/sources.py`."""

    sources: list[str] = field(
        default_factory=lambda: ["speeches", "scripture", "wikipedia", "reviews", "tweets"]
    )

    def __post_init__(self) -> None:
        words("data.corpus.", self, "sources")


@dataclass(kw_only=True)
class LocalCorpusConfig(CorpusConfig):
    """Your own text: files, folders or globs of `.jsonl` (one document a line), or `.txt` (one
    document a file). The stem of a file, or the folder of a `.txt`, names the domain."""

    name: str = "local"
    files: list[str] = field(default_factory=lambda: [])  # web-like text; the filter picks from it
    curated: list[str] = field(default_factory=lambda: [])  # good text: teaches the filter
    held_out: list[str] = field(default_factory=lambda: [])  # evaluated on, and nothing else
    text_field: str = "text"

    def __post_init__(self) -> None:
        words("data.corpus.", self, "files", "curated", "held_out")


@dataclass(kw_only=True)
class FilterConfig:
    """Quality filter of the web-like sources (paper section 3)."""

    name: str = "pareto"  # or "threshold"; "none": every page is kept
    alpha: float = 9.0  # pareto: a page stays when Lomax(alpha) > 1 - score
    threshold: float = THRESHOLD  # threshold: a page stays when its score is higher
    calibrate: bool = True  # scores become ranks within the pool; raw ones starve the sampler
    num_features: int = 262_144
    ngrams: int = 2
    folds: int = 2  # each page is scored by a classifier that did not train on it

    def __post_init__(self) -> None:
        one_of("data.filter.name", self.name, ("pareto", "threshold", "none"))
        positive("data.filter.", self, "alpha")
        within("data.filter.", self, 0, 1, "threshold")
        if self.name != "threshold" and self.threshold != THRESHOLD:
            raise UserError(
                f"data.filter.threshold={self.threshold} but data.filter.name={self.name} has no "
                f"threshold; add data=threshold"
            )
        within("data.filter.", self, 1, 2**31 - 1, "num_features")
        within("data.filter.", self, 1, 8, "ngrams")
        within("data.filter.", self, 2, 100, "folds")


@dataclass(kw_only=True)
class MixtureConfig:
    """Share of the training tokens by component (paper table 3); what a corpus lacks is
    shared out among the rest."""

    webpages: float = 0.42
    wikipedia: float = 0.06
    conversations: float = 0.28
    forums: float = 0.02
    books: float = 0.20
    news: float = 0.02

    def __post_init__(self) -> None:
        within("data.mixture.", self, 0, 1e6, *COMPONENTS)


@dataclass(kw_only=True)
class DataConfig:
    corpus: CorpusConfig = field(default_factory=EmbeddedCorpusConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    left_out: list[str] = field(default_factory=lambda: [])  # sources evaluated on, not trained on
    page_characters: int = 1200  # longer web documents are cut into pages before scoring
    held_out_fraction: float = 0.05  # of each domain's text, in whole documents
    tokenizer_megabytes: float = 8.0  # sample of the training text that the vocabulary is made from
    seed: int = 0  # of the splits and of the sampling; a run's own seed orders the batches

    def __post_init__(self) -> None:
        positive("data.", self, "page_characters", "held_out_fraction", "tokenizer_megabytes")
        within("data.", self, 0, 0.5, "held_out_fraction")
        words("data.", self, "left_out")
        within("data.", self, 0, 2**32 - 1, "seed")
