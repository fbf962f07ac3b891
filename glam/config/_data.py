"""Data: the corpus, the quality filter, the mixture, and what is held out."""

from dataclasses import dataclass, field

from glam.config._checks import LARGEST, not_in_identity, positive, within, words
from glam.config._executor import EXECUTORS, RayTasksConfig, SlurmTasksConfig
from glam.config.corpora import COMPONENTS, CorpusConfig
from glam.config.corpora.embedded import EmbeddedCorpusConfig
from glam.errors import UserError, one_of

MOST_NGRAMS = 8  # [words] of a feature
MOST_FEATURES = 2**24
THRESHOLD = 0.875  # of ranks: as many pages as Pareto sampling keeps


@dataclass(kw_only=True)
class FilterConfig:
    """Quality filter of the web-like sources (paper section 3)."""

    # which pages are kept: pareto (sampled by score, as the paper) | threshold | none (all)
    name: str = "pareto"
    alpha: float = 9.0  # pareto: a page is kept when a draw of Lomax(alpha) exceeds 1 - score
    threshold: float = THRESHOLD  # threshold: a page is kept when its score is higher
    # replace scores by their ranks within the pool; of raw scores, pareto keeps too few
    calibrate: bool = True
    # where scores come from: classifier | published (with the text, as data.corpus names them)
    scores: str = "classifier"
    # a classifier that was trained before: its folder or file; null: one learns from curated text
    model: str | None = None
    num_features: int = 262_144  # size of the classifier's hashed features
    ngrams: int = 2  # [words] longest n-gram that is a feature
    folds: int = 2  # cross-fitting: a page is scored by a classifier that did not train on it

    def __post_init__(self) -> None:
        one_of("data.filter.name", self.name, ("pareto", "threshold", "none"))
        one_of("data.filter.scores", self.scores, ("classifier", "published"))
        positive("data.filter.", self, "alpha")
        is_share = self.calibrate or self.scores == "classifier"
        within("data.filter.", self, *((0, 1) if is_share else (-LARGEST, LARGEST)), "threshold")
        self._check_scores()
        if self.name != "threshold" and self.threshold != THRESHOLD:
            raise UserError(
                f"data.filter.threshold={self.threshold} but data.filter.name={self.name} has no "
                f"threshold; add data=threshold"
            )
        within("data.filter.", self, 1, MOST_FEATURES, "num_features")
        within("data.filter.", self, 1, MOST_NGRAMS, "ngrams")
        within("data.filter.", self, 2, 100, "folds")

    def _check_scores(self) -> None:
        if self.model is not None and not self.model.strip():
            raise UserError("data.filter.model is empty; name a classifier, or leave it out")
        if self.scores == "classifier":
            return
        if self.model is not None:
            raise UserError(
                f"data.filter.model={self.model} gives scores, and data.filter.scores=published "
                f"takes those of the text; leave one out"
            )
        if self.name == "pareto" and not self.calibrate:
            raise UserError(
                "data.filter.calibrate=false takes scores for probabilities, and published ones "
                "are of any scale; leave it out, or add data=threshold"
            )


@dataclass(kw_only=True)
class MixtureConfig:
    """Share of the training tokens by component (paper table 3). The share of a component that the
    corpus lacks goes to the others."""

    webpages: float = 0.42  # [weight] of filtered web pages
    wikipedia: float = 0.06  # [weight] of Wikipedia
    conversations: float = 0.28  # [weight] of conversations
    forums: float = 0.02  # [weight] of forums
    books: float = 0.20  # [weight] of books
    news: float = 0.02  # [weight] of news

    def __post_init__(self) -> None:
        within("data.mixture.", self, 0, 1e6, *COMPONENTS)


@dataclass(kw_only=True)
class DedupConfig:
    """Copies that are left out. Equal documents always are, near copies by MinHash signatures over
    n-grams of words: of documents that are alike one stays."""

    # near copies too; null: of your own and the hub's text, not of the embedded corpora
    near: bool | None = None
    bands: int = 14  # of a signature; documents that agree in a whole band are compared
    rows: int = 8  # of a band: minima that agree
    ngram: int = 5  # [words] whose hashes' minima are taken
    # [share] estimated Jaccard similarity of two documents' n-grams from which they are copies
    threshold: float = 0.7

    def __post_init__(self) -> None:
        within("data.dedup.", self, 1, 128, "bands")
        within("data.dedup.", self, 1, 8, "rows")
        within("data.dedup.", self, 1, 64, "ngram")
        within("data.dedup.", self, 0, 1, "threshold")


@dataclass(kw_only=True)
class ContaminationConfig:
    """Training text that has n-grams of evaluation items (paper section 5; GPT-3, appendix C)."""

    # what overlaps is left out of training: pages of web-like text, and whole curated documents
    remove: bool = False
    # the overlap is looked for, told, and scores of the items without any stand beside the whole
    report: bool = field(default=True, metadata={"result": False})


@dataclass(kw_only=True)
class DataConfig:
    """Text: its sources, how it is filtered and mixed, and what is held out."""

    corpus: CorpusConfig = field(default_factory=EmbeddedCorpusConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)
    contamination: ContaminationConfig = field(default_factory=ContaminationConfig)
    # sources that are evaluated on but not trained on: [names]
    left_out: list[str] = field(default_factory=lambda: [])
    # [characters] longer web documents are cut into pages of this size before they are scored
    page_characters: int = 1200
    held_out_fraction: float = 0.05  # [share] of each domain's text, in whole documents
    # [MB] of training text that the tokenizer's vocabulary is learnt from
    tokenizer_megabytes: float = 8.0
    # a tokenizer that was trained before: a SentencePiece .model, its folder, or a run's; null: one
    # learns from the text
    tokenizer: str | None = None
    seed: int = 0  # of the splits and the filter's sampling; the top-level seed orders the batches
    # who prepares the text: local (processes of this machine) | slurm | ray (extra: scale)
    executor: str = not_in_identity("local")
    # processes that prepare text at once on this machine; null: as many as cores
    workers: int | None = not_in_identity(None)
    slurm: SlurmTasksConfig = field(
        default_factory=SlurmTasksConfig, metadata={"result": False}
    )  # of data.executor=slurm
    ray: RayTasksConfig = field(
        default_factory=RayTasksConfig, metadata={"result": False}
    )  # of data.executor=ray

    def __post_init__(self) -> None:
        positive("data.", self, "page_characters", "held_out_fraction", "tokenizer_megabytes")
        within("data.", self, 0, 0.5, "held_out_fraction")
        words("data.", self, "left_out")
        one_of("data.executor", self.executor, EXECUTORS)
        positive("data.", self, "workers")
        within("data.", self, 0, 2**32 - 1, "seed")
        if self.tokenizer is not None and not self.tokenizer.strip():
            raise UserError("data.tokenizer is empty; name a tokenizer, or leave it out")

    @property
    def removes_near_copies(self) -> bool:
        """`data.dedup.near`, or what null stands for."""
        near = self.dedup.near
        return self.corpus.name != "embedded" if near is None else near
