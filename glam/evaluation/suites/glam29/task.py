"""A benchmark as lm-eval runs it: prompts with as many demonstrations as fit, and the paper's
choice among answers."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingTypeStubs]
from lm_eval.api.task import ConfigurableTask  # pyright: ignore[reportMissingTypeStubs]

from glam.errors import UserError, first_line
from glam.evaluation.suites.base import FitsContext
from glam.evaluation.suites.glam29.benchmark import (
    ANSWER_CONTEXT,
    BEAM_WIDTH,
    LENGTH_PENALTY,
    NOT_AS_EXPECTED,
    OVER_ANSWER,
    PER_TOKEN,
    Benchmark,
    Chosen,
    Document,
    Generated,
    Option,
)
from glam.evaluation.suites.glam29.documents import Documents

SEPARATOR = "\n\n"  # behind a demonstration


class BenchmarkTask(ConfigurableTask, FitsContext):
    """lm-eval's task of a benchmark. Prompts are made by functions: lm-eval would compile its
    templates anew for each document."""

    def __init__(self, benchmark: Benchmark, judged: Documents, pool: Documents) -> None:
        self.benchmark, self._judged, self._pool = benchmark, judged, pool
        self._seed: int | None = None
        self._count_tokens: Callable[[str], int] | None = None
        self._max_length = 0
        self._lengths: dict[int, int] = {}  # [tokens] of demonstrations, by their place
        self._asked = 0
        self._shown: list[int] = []  # demonstrations of each prompt
        super().__init__(config=_config(benchmark))  # pyright: ignore[reportUnknownMemberType]

    def fit(self, count_tokens: Callable[[str], int], max_length: int) -> None:
        self._count_tokens, self._max_length = count_tokens, max_length
        self._lengths.clear()

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """The documents are here already."""
        self.dataset = {self.benchmark.data.split: self._judged}

    def fewshot_docs(self) -> None:
        """None: lm-eval's sampler is not used."""

    def set_fewshot_seed(self, seed: int | None = None) -> None:
        self._seed = seed

    def doc_to_text(self, doc: Document, doc_to_text: Any = None) -> str:
        return self.benchmark.options(doc)[0].prompt

    def doc_to_target(self, doc: Document, doc_to_target: Any = None) -> str:
        return self.benchmark.right(doc).answer

    def build_all_requests(self, **rest: Any) -> None:
        """As lm-eval's; from then on the task has the number of demonstrations that it shows."""
        self._asked = int(self.get_config("num_fewshot") or 0)
        self._shown.clear()
        super().build_all_requests(**rest)  # pyright: ignore[reportUnknownMemberType]
        self.set_config("num_fewshot", round(self._mean_shown()))

    def _mean_shown(self) -> float:
        return sum(self._shown) / len(self._shown)

    def fewer(self) -> str:
        mean = self._mean_shown()
        return f"{mean:.1f} of {self._asked}" if mean < self._asked else ""

    def check(self, num_fewshot: int) -> None:
        there = self._demonstrations_there()
        if there < num_fewshot != self.benchmark.shots:
            raise UserError(
                f"evaluation.num_fewshot={num_fewshot}: {self.benchmark.title} has {there} "
                "demonstrations; ask for fewer, or leave it out for as many as fit"
            )

    def _demonstrations_there(self) -> int:
        return len(self._pool) - (self._pool is self._judged)  # an item is not its own

    def fewshot_context(self, doc: Document, num_fewshot: int, *_: Any, **__: Any) -> list[str]:
        """The whole prompt of each option."""
        found = self.benchmark
        if isinstance(found, Generated) and found.zero_shot is not None and num_fewshot == 0:
            self._shown.append(0)
            return [found.zero_shot(doc)]
        options = found.options(doc)
        shown = self._fitting(doc, options, num_fewshot)
        self._shown.append(len(shown))
        return [self._whole(shown, option.prompt) for option in options]

    def _whole(self, shown: Sequence[str], prompt: str) -> str:
        before = "".join(f"{one}{SEPARATOR}" for one in shown)
        return f"{self.benchmark.description}{before}{prompt}"

    def _fitting(self, doc: Document, options: Sequence[Option], count: int) -> list[str]:
        """Of the demonstrations that are drawn for a document, the first ones that fit before its
        longest option."""
        drawn = self._drawn(doc, min(count, self._demonstrations_there()))
        shown = [(place, self._show(place)) for place in drawn]
        if self._count_tokens is None:
            return [text for _, text in shown]
        room = self._max_length - max(map(self._tokens_of, options))
        kept: list[str] = []
        for place, text in shown:
            if place not in self._lengths:
                self._lengths[place] = self._count_tokens(text + SEPARATOR)
            room -= self._lengths[place]
            if room < 0:
                break
            kept.append(text)
        return kept

    def _show(self, place: int) -> str:
        try:
            return self.benchmark.show(self._pool[place])
        except NOT_AS_EXPECTED as error:
            data, found = self.benchmark.data, f"{type(error).__name__}: {first_line(error)}"
            raise UserError(
                f"{data.dataset}: document {place + 1} of {data.demonstrations} has not its fields "
                f"({found}); mend it, or evaluation.num_fewshot=0"
            ) from None

    def _tokens_of(self, option: Option) -> int:
        assert self._count_tokens is not None
        found = self.benchmark
        text = self._whole([], f"{option.prompt}{found.delimiter}{option.answer}")
        written = min(found.tokens, self._max_length // 2) if isinstance(found, Generated) else 0
        return 1 + self._count_tokens(text) + written  # 1: the beginning of the document

    def _drawn(self, doc: Document, count: int) -> list[int]:
        """Places of the demonstrations, in their order. They depend on the seed and the document
        alone, not on the documents before it, which processes share."""
        mine = "" if self.benchmark.same_demonstrations else _text_of(doc)
        draw = random.Random(f"{self._seed} {mine}")
        if self._pool is not self._judged:
            return draw.sample(range(len(self._pool)), count)
        places = draw.sample(range(len(self._pool)), count + 1) if count else []
        return [place for place in places if self._pool[place] != doc][:count]

    def construct_requests(self, doc: Document, ctx: Any, **rest: Any) -> list[Instance]:
        kept = {"metadata": rest["metadata"]}
        if isinstance(self.benchmark, Generated):
            options = dict[str, Any](self.get_config("generation_kwargs"))
            return [Instance("generate_until", dict(doc), (ctx[0], options), 0, **kept)]
        answers = [
            f"{self.benchmark.delimiter}{option.answer}" for option in self.benchmark.options(doc)
        ]
        pairs = list(zip(ctx, answers, strict=True))
        if isinstance(self.benchmark, Chosen) and self.benchmark.rule == OVER_ANSWER:
            pairs += [(ANSWER_CONTEXT, answer) for answer in answers]
        return [
            Instance("loglikelihood", dict(doc), pair, place, **kept)
            for place, pair in enumerate(pairs)
        ]

    def process_results(self, doc: Document, results: Sequence[Any]) -> dict[str, Any]:
        found = self.benchmark
        if isinstance(found, Generated):
            return found.score(doc, results[0].strip())
        assert isinstance(found, Chosen)
        values = normalized(found.rule, results)
        return found.judge(doc, max(range(len(values)), key=values.__getitem__))


def _text_of(doc: Document) -> str:
    """The same for the same document, whatever file it came from."""
    return json.dumps(dict(doc), sort_keys=True, default=str)


def normalized(rule: str, found: Sequence[Any]) -> list[float]:
    """Log-likelihoods that can be compared; under OVER_ANSWER, `found` goes on with those of the
    same answers after "Answer:"."""
    if rule == OVER_ANSWER:
        half = len(found) // 2
        return [one[0] - other[0] for one, other in zip(found[:half], found[half:], strict=True)]
    if rule == PER_TOKEN:
        return [one[0] / max(1, one.tokens) for one in found]
    return [one[0] for one in found]


def macro_f1(pairs: Sequence[tuple[int, int]]) -> float:
    """Mean over the classes of F1, of pairs (right, chosen)."""
    return _f1_of_classes(pairs, average="macro")


def f1a(pairs: Sequence[tuple[int, int]]) -> float:
    """F1 of the true answers, of pairs (right, chosen)."""
    return _f1_of_classes(pairs)


def _f1_of_classes(pairs: Sequence[tuple[int, int]], **options: Any) -> float:
    from sklearn.metrics import f1_score  # pyright: ignore

    right, chosen = zip(*pairs, strict=True)
    return float(f1_score(right, chosen, zero_division=0.0, **options))  # pyright: ignore


# Metrics that are no mean over items.
AGGREGATIONS: dict[tuple[str, str], Callable[[Sequence[Any]], float]] = {
    ("cb", "f1"): macro_f1,
    ("multirc", "f1a"): f1a,
}


def _config(benchmark: Benchmark) -> dict[str, Any]:
    """What lm-eval and its results' file know of a benchmark."""
    data = benchmark.data
    config: dict[str, Any] = {
        "task": benchmark.name,
        "task_alias": benchmark.title,
        "dataset_path": data.dataset,
        "dataset_name": data.config,
        "test_split": data.split,
        "num_fewshot": benchmark.shots,
        "description": benchmark.description,
        "target_delimiter": benchmark.delimiter,
        "output_type": "multiple_choice",
        "process_results": f"{BenchmarkTask.__qualname__}.process_results",
        "metric_list": [
            {
                "metric": metric,
                "aggregation": AGGREGATIONS.get((benchmark.name, metric), "mean"),
                "higher_is_better": True,
            }
            for metric in benchmark.metrics
        ],
        "metadata": {"version": 1.0, "demonstrations": data.demonstrations},
    }
    if isinstance(benchmark, Generated):
        config["output_type"] = "generate_until"
        config["generation_kwargs"] = {
            "until": ["\n"],
            "max_gen_toks": benchmark.tokens,
            "num_beams": BEAM_WIDTH,
            "length_penalty": LENGTH_PENALTY,
            "length_penalty_form": "gnmt",  # ((5 + tokens) / 6) ** 0.6; Hugging Face's is a power
        }
    return config
