"""Six tasks from held-out text, for models of any size (`evaluation=embedded`): what a tiny model
has learned shows in them, and chance does not (docs/embedded-tasks.md)."""

from typing import TYPE_CHECKING

from glam.config import EvaluationConfig
from glam.errors import UserError, one_of
from glam.evaluation.suites.base import SUITES, LoadedSuite, Suite
from glam.evaluation.suites.embedded.items import FORMS, cached_items, chance

if TYPE_CHECKING:
    from glam.data import PreparedData, Texts
    from glam.data.contamination import EvaluationItems


@SUITES.register
class Embedded(Suite):
    """What held-out text itself asks: which words come next, and which sentence is right."""

    name = "embedded"
    needs_text = True

    def check(self, evaluation: EvaluationConfig) -> None:
        for name in evaluation.tasks:
            one_of("evaluation.tasks", name, FORMS)

    def prepare(self, prepared: "PreparedData") -> None:
        if prepared.texts is not None:
            cached_items(prepared.texts)

    def items_of_text(self, texts: "Texts") -> "EvaluationItems | None":
        from glam.evaluation.suites.embedded.items import evaluation_items

        return evaluation_items(self.name, texts)

    def load(self, evaluation: EvaluationConfig, prepared: "PreparedData | None") -> LoadedSuite:
        from glam.evaluation.suites.embedded.tasks import METRICS, make_task

        self.check(evaluation)
        wanted = evaluation.tasks or list(FORMS)
        if prepared is None or prepared.texts is None:
            raise UserError("evaluation=embedded is made of a run's text, which is not here")
        found = cached_items(prepared.texts)
        tasks = {name: items for name, items in found.tasks.items() if name in wanted}
        return LoadedSuite(
            name=self.name,
            tasks={name: make_task(name, items) for name, items in tasks.items()},
            metrics={name: (METRICS[name],) for name in tasks},
            chance={name: chance(items) for name, items in tasks.items()},
            missing={name: why for name, why in found.missing.items() if name in wanted},
            averages={"mean": tuple(tasks)},
            cluster=dict.fromkeys(tasks, _document),
        )


def _document(doc: dict[str, object]) -> str:
    return f"{doc['domain']}/{doc['document']}"
