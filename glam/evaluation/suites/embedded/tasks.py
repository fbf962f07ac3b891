"""Items as lm-eval's tasks."""
# datasets' and lm-eval's types leave what is in a document open.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import datasets
from lm_eval.api.samplers import ContextSampler
from lm_eval.api.task import ConfigurableTask

from glam.evaluation.suites.embedded.forms import Item
from glam.evaluation.suites.embedded.items import VERSION

Doc = dict[str, Any]
# Of a continuation its log-likelihood given the context, less that without one: raw sums favour
# frequent words, whatever stands before. Other forms differ in a word or two, and need none of it.
METRICS = {
    "continuation": "acc_mutual_info",
    "domain": "acc_mutual_info",
    "last_word": "acc",
    "word_order": "acc",
    "agreement": "acc",
    "completion": "exact_match",
}


class SameDomain(ContextSampler):
    """Demonstrations: the first items of the item's own domain, from other documents where the
    domain has several. The same ones before every item of a domain, so that they are read once."""

    def sample(
        self,
        n: int,
        eval_doc: Doc | None = None,
        df: Sequence[Doc] | None = None,
        **kwargs: Any,
    ) -> list[Doc]:
        assert eval_doc is not None  # lm-eval gives it where demonstrations are items too
        others = [one for one in self._docs() if one != eval_doc]

        def is_far(one: Doc) -> tuple[bool, bool]:
            other_domain = one["domain"] != eval_doc["domain"]
            return other_domain, one["document"] == eval_doc["document"]

        return sorted(others, key=is_far)[:n]

    def _docs(self) -> list[Doc]:
        return cast(list[Doc], self.df)


class ItemsTask(ConfigurableTask):
    """A task whose items are at hand."""

    def __init__(self, items: Sequence[Item], config: dict[str, Any]) -> None:
        self._items = items
        super().__init__(config=config)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        rows = [asdict(item) for item in self._items]
        self.dataset = {"test": datasets.Dataset.from_list(rows)}


def make_task(name: str, items: Sequence[Item]) -> ItemsTask:
    """The task of a form."""
    metric = {"metric": METRICS[name], "aggregation": "mean", "higher_is_better": True}
    return ItemsTask(
        items,
        {
            "task": name,
            "test_split": "test",
            "fewshot_split": "test",
            "fewshot_config": {"sampler": SameDomain},
            "fewshot_delimiter": "\n\n",
            "target_delimiter": "",
            "doc_to_text": _context,
            "metric_list": [metric],
            "metadata": {"version": VERSION},
            **(_WRITTEN if METRICS[name] == "exact_match" else _CHOSEN),
        },
    )


def _context(doc: Doc) -> str:
    return doc["context"]


def _answer(doc: Doc) -> str:
    return doc["choices"][doc["answer"]]


def _choices(doc: Doc) -> list[str]:
    return doc["choices"]


def _number(doc: Doc) -> int:
    return doc["answer"]


def _is_written(doc: Doc, results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Whether every token of the answer is the likeliest: greedy decoding writes it."""
    [(_, is_greedy)] = results
    return {"exact_match": float(is_greedy)}


_CHOSEN = {
    "output_type": "multiple_choice",
    "doc_to_choice": _choices,
    "doc_to_target": _number,
}
_WRITTEN = {
    "output_type": "loglikelihood",
    "doc_to_target": _answer,
    "process_results": _is_written,
}
