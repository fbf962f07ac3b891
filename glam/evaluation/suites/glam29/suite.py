"""`evaluation=glam29`: the 29 benchmarks that GLaM was judged on, each as the paper judges it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glam.config import EvaluationConfig
from glam.errors import UserError, first_line, one_of
from glam.evaluation.harness import MissingDataError, quiet
from glam.evaluation.suites.base import SUITES, LoadedSuite, Suite
from glam.evaluation.suites.glam29.benchmark import (
    CATEGORIES,
    NOT_AS_EXPECTED,
    Benchmark,
    Document,
    Generated,
)
from glam.evaluation.suites.glam29.catalogue import BENCHMARKS
from glam.evaluation.suites.glam29.documents import Documents, read
from glam.evaluation.suites.glam29.published import published

if TYPE_CHECKING:
    from glam.data import PreparedData
    from glam.evaluation.suites.glam29.task import BenchmarkTask


@SUITES.register
class Glam29(Suite):
    """The paper's 29 benchmarks in seven categories, with its averages."""

    name = "glam29"

    def load(self, evaluation: EvaluationConfig, prepared: "PreparedData | None") -> LoadedSuite:
        """Raises UserError for a benchmark that there is not, and where no data set is there."""
        tasks: dict[str, BenchmarkTask] = {}
        chance: dict[str, float] = {}
        missing: dict[str, str] = {}
        chosen = _chosen(evaluation.tasks)
        for name, benchmark in chosen.items():
            try:
                tasks[name], chance[name] = load_benchmark(benchmark, evaluation)
            except MissingDataError as error:
                missing[name] = str(error)
        if not tasks:
            name, why = next(iter(missing.items()))
            raise UserError(
                f"evaluation=glam29: none of its data sets is there ({name}: {why}); name a folder "
                "that has them, evaluation.data_dir=… (docs/glam29.md says its layout)"
            )
        return LoadedSuite(
            name=self.name,
            tasks=tasks,
            metrics={name: one.metrics for name, one in chosen.items()},
            chance=chance,
            num_fewshot={name: one.shots for name, one in chosen.items()},
            missing=missing,
            averages=averages(chosen),
            cluster={name: one.passage for name, one in chosen.items() if one.passage},
            published=published(),
        )

    def right(self, task: Any, document: Document) -> str:
        return " ".join(task.benchmark.right(document))


def _chosen(names: list[str]) -> dict[str, Benchmark]:
    for name in names:
        one_of("evaluation.tasks", name, BENCHMARKS)
    return {name: one for name, one in BENCHMARKS.items() if not names or name in names}


def load_benchmark(
    benchmark: Benchmark, evaluation: EvaluationConfig
) -> "tuple[BenchmarkTask, float]":
    """The task, and what guessing scores. Raises MissingDataError, one clause."""
    from glam.evaluation.suites.glam29.task import BenchmarkTask

    folder = Path(evaluation.data_dir).expanduser() if evaluation.data_dir else None
    rows, others = read(benchmark.data, folder)
    try:
        judged = Documents(rows, benchmark.expand)
        pool = judged if others is rows else Documents(others, benchmark.pool or benchmark.expand)
        chance = _check(benchmark, judged[: evaluation.limit])
        with quiet():
            return BenchmarkTask(benchmark, judged, pool), chance
    except NOT_AS_EXPECTED as error:
        kind = f"{type(error).__name__}: {first_line(error)}"
        raise MissingDataError(
            f"its documents have not the fields of {benchmark.data.dataset} ({kind})"
        ) from None


def _check(benchmark: Benchmark, documents: Sequence[Document]) -> float:
    """What guessing scores; every document is read on the way."""
    for document in documents:
        benchmark.read(document)
    return benchmark.chance(documents)


def averages(chosen: Mapping[str, Benchmark]) -> dict[str, tuple[str, ...]]:
    """The paper's: over all, over generation and understanding, and over each category. SQuADv2
    counts twice, as F1 and as exact match: only so do GPT-3's numbers give the averages that the
    paper prints for it (tests)."""
    everything: dict[str, list[str]] = {"all": [], "NLG": [], "NLU": []}
    everything |= {category: [] for category in CATEGORIES}
    for name, benchmark in BENCHMARKS.items():
        numbers = [name, *([f"{name}/em"] if name == "squadv2" else [])]
        kind = "NLG" if isinstance(benchmark, Generated) else "NLU"
        for average in ("all", kind, benchmark.category):
            everything[average] += numbers
    of_chosen = {
        name: any(one.split("/")[0] in chosen for one in tasks)
        for name, tasks in everything.items()
    }
    return {name: tuple(tasks) for name, tasks in everything.items() if of_chosen[name]}
