"""What a suite of tasks is, and the registry of suites (`evaluation=<name>`)."""
# pyright: reportMissingTypeStubs=false

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from glam.config import EvaluationConfig
from glam.config.registry import Registry

if TYPE_CHECKING:
    from lm_eval.api.task import Task

    from glam.data import PreparedData, Texts
    from glam.data.contamination import EvaluationItems

SUITES: "Registry[Suite]" = Registry("evaluation")
AVERAGE = "mean"  # the metric of a published average


class FitsContext(ABC):
    """A task that puts as many demonstrations before an item as fit."""

    @abstractmethod
    def check(self, num_fewshot: int) -> None:
        """Raises UserError for more demonstrations than there are, unless they are its own number:
        then it shows what there is."""

    @abstractmethod
    def fit(self, count_tokens: Callable[[str], int], max_length: int) -> None:
        """Called before its requests are built. A prompt and its answer may have `max_length`
        tokens, the beginning of the document included, which `count_tokens` leaves out."""

    @abstractmethod
    def fewer(self) -> str:
        """Known when its requests are built: "2.3 of 64" where fewer demonstrations than were asked
        for stand before an item, in the mean; "" otherwise."""


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """What a paper gives for a model on a task, as a share of 1."""

    task: str  # or the name of an average
    metric: str
    model: str
    setting: str  # "zero", "one" or "few"
    value: float
    source: str
    shots: int | None = None  # demonstrations in the few-shot setting, where they are said
    doubt: str = ""  # why it may be wrong: what another copy says


@dataclass(frozen=True, kw_only=True)
class LoadedSuite:
    """Tasks that are ready to be judged, in the order of the table."""

    name: str  # of its files in the folder of a run
    tasks: "Mapping[str, Task]"  # lm-eval's, by name
    # of each task, its metrics that are shown (lm-eval's names), the one that stands for it first;
    # a task that is absent shows all of its metrics
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    # of each task, what guessing scores on its first metric, and on those that are named acc…;
    # absent: nothing is known
    chance: Mapping[str, float] = field(default_factory=dict[str, float])
    # of each task, its own number of demonstrations; absent: what its lm-eval config says, else 0
    num_fewshot: Mapping[str, int] = field(default_factory=dict[str, int])
    # of each task that cannot be judged here, why: one clause
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    # averages over first metrics, by name: the tasks of each (some of which may be missing);
    # "<task>/<metric>" is another metric of a task
    averages: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    # of each task whose items are not independent: what an item (lm-eval's doc) belongs to
    cluster: Mapping[str, Callable[[Any], str]] = field(
        default_factory=dict[str, Callable[[Any], str]]
    )
    published: Sequence[PublishedFigure] = ()  # what papers give for these tasks
    # of each task whose overlap with training text is known, whether an item overlaps, by lm-eval's
    # number of its document
    dirty: Mapping[str, Sequence[bool]] = field(default_factory=dict[str, Sequence[bool]])


class Suite:
    """A suite: a class with a `name`, a file of `conf/evaluation` of that name."""

    name: ClassVar[str]
    needs_text: ClassVar[bool] = False  # whether its tasks are made of the run's held-out text

    def check(self, evaluation: EvaluationConfig) -> None:
        """Before a run trains: raises UserError for a task that there is not."""

    def prepare(self, prepared: "PreparedData") -> None:
        """Before a run trains: makes what the tasks need of its text, once for every text. Raises
        UserError where that cannot be kept."""

    def load(self, evaluation: EvaluationConfig, prepared: "PreparedData | None") -> LoadedSuite:
        """The tasks; `prepared` is given where the suite `needs_text`. `evaluation.tasks` picks
        some. Raises UserError for a task that there is not."""
        raise NotImplementedError(f"{type(self).__name__} has no load()")

    def items(self, loaded: LoadedSuite) -> "EvaluationItems":
        """The items of its tasks as text with their right answers, numbered as lm-eval numbers its
        documents: what is looked for in training text."""
        from glam.data.contamination import EvaluationItem, EvaluationItems
        from glam.evaluation.suites.item_texts import stretches

        tasks: Mapping[str, Any] = loaded.tasks
        found = (
            EvaluationItem(name, number, stretches(document, self.right(task, document)))
            for name, task in tasks.items()
            for number, document in enumerate(task.eval_docs)
        )
        return EvaluationItems.of(loaded.name, found)

    def right(self, task: "Task", document: Any) -> str:
        """The prompt of a document with the right answer behind it."""
        from glam.evaluation.suites.item_texts import right

        return right(task, document)

    def items_of_text(self, texts: "Texts") -> "EvaluationItems | None":
        """As `items`, of a suite that is made of the run's text, before its tasks are loaded; None
        of others."""
        return None
