"""What a benchmark is: where its documents lie, what a prompt looks like, what counts as right."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Document = Mapping[str, Any]  # a row of a data set, or an item that was made of some
Expand = Callable[[Iterable[Document]], Iterator[Document]]

# The paper's categories (arXiv 2112.06905, section 5.1), by their names in a table.
OPEN_DOMAIN = "open-domain QA"
CLOZE = "cloze and completion"
WINOGRAD = "Winograd-style"
COMMONSENSE = "commonsense reasoning"
READING = "reading comprehension"
SUPERGLUE = "SuperGLUE"
NLI = "natural language inference"
CATEGORIES = (OPEN_DOMAIN, CLOZE, WINOGRAD, COMMONSENSE, READING, SUPERGLUE, NLI)

# How the log-likelihoods of choices are made comparable (arXiv 2005.14165, section 2.4).
PER_TOKEN = "per token"
SUM = "sum"
OVER_ANSWER = "over that after Answer:"  # P(choice | prompt) / P(choice | "Answer: ")
ANSWER_CONTEXT = "Answer:"

BEAM_WIDTH, LENGTH_PENALTY = 4, 0.6
# What reading a field raises that is not there, or is another.
NOT_AS_EXPECTED = (LookupError, TypeError, ValueError, AttributeError)


class Data(NamedTuple):
    """Where documents lie: a data set of the Hugging Face hub, and its splits."""

    dataset: str
    config: str | None
    split: str  # which is judged
    demonstrations: str  # which demonstrations are drawn from; may be the same
    revision: str | None = None  # of the hub's repository, where its main branch holds no files


class Option(NamedTuple):
    """One of several to choose from: an answer after a prompt."""

    prompt: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One of the 29. A prompt has no space at its end; `delimiter` stands before the answer."""

    name: str
    title: str  # as the paper has it
    category: str
    data: Data
    shots: int  # demonstrations in the few-shot setting: GPT-3's (its table H.1)
    metrics: tuple[str, ...]  # the first stands for the benchmark
    description: str = ""  # what stands once, before everything
    delimiter: str = " "
    expand: Expand | None = None  # items of rows; None: every row is one
    pool: Expand | None = None  # demonstrations of rows; None: as `expand`
    demonstration: Callable[[Document], str] | None = None  # None: prompt and right answer
    same_demonstrations: bool = False  # for all items; else drawn anew for each
    passage: Callable[[Document], str] | None = None  # that an item shares with others

    def right(self, document: Document) -> Option:
        """The prompt with its right answer."""
        raise NotImplementedError

    def options(self, document: Document) -> Sequence[Option]:
        """What is judged: the prompt alone (its answer empty), or all that is chosen from."""
        raise NotImplementedError

    def read(self, document: Document) -> None:
        """Read all that is ever read of a document. Raises one of NOT_AS_EXPECTED."""
        raise NotImplementedError

    def show(self, document: Document) -> str:
        """A demonstration."""
        if self.demonstration is not None:
            return self.demonstration(document)
        prompt, answer = self.right(document)
        return f"{prompt}{self.delimiter}{answer}"

    def chance(self, documents: Sequence[Document]) -> float:
        """What guessing scores on the first metric."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Generated(Benchmark):
    """An answer is written, by a beam search, up to the end of a line."""

    prompt: Callable[[Document], str]
    answer: Callable[[Document], str]
    score: Callable[[Document, str], dict[str, float]]
    tokens: int  # an answer has at most
    # the whole prompt without demonstrations, where it is another
    zero_shot: Callable[[Document], str] | None = None
    # whether no answer is the right one, which is what guessing amounts to
    unanswerable: Callable[[Document], bool] = lambda document: False

    def right(self, document: Document) -> Option:
        return Option(self.prompt(document), self.answer(document))

    def options(self, document: Document) -> Sequence[Option]:
        return [Option(self.prompt(document), "")]

    def read(self, document: Document) -> None:
        self.right(document)
        self.score(document, "")

    def chance(self, documents: Sequence[Document]) -> float:
        return sum(map(self.unanswerable, documents)) / len(documents)


@dataclass(frozen=True, kw_only=True)
class Chosen(Benchmark):
    """Of several, the likeliest is chosen, its log-likelihood normalized by `rule`."""

    choices: Callable[[Document], Sequence[Option]]
    gold: Callable[[Document], int]
    rule: str = PER_TOKEN
    # metrics of a document where choice number … is taken; None: accuracy
    score: Callable[[Document, int], dict[str, Any]] | None = None
    guessing: Callable[[Sequence[Document]], float] | None = None  # None: one over the choices

    def right(self, document: Document) -> Option:
        return self.choices(document)[self.gold(document)]

    def options(self, document: Document) -> Sequence[Option]:
        return self.choices(document)

    def read(self, document: Document) -> None:
        self.right(document)
        self.judge(document, 0)

    def judge(self, document: Document, chosen: int) -> dict[str, Any]:
        if self.score is not None:
            return self.score(document, chosen)
        return {"acc": float(chosen == self.gold(document))}

    def chance(self, documents: Sequence[Document]) -> float:
        if self.guessing is not None:
            return self.guessing(documents)
        return sum(1 / len(self.choices(one)) for one in documents) / len(documents)


def after(prompt: str, answers: Iterable[str]) -> list[Option]:
    """Answers to choose from, after the same prompt."""
    return [Option(prompt, answer) for answer in answers]
