"""Tasks that lm-eval brings, by their names: `evaluation=arc_easy,piqa`."""

from typing import TYPE_CHECKING

from glam.config import EvaluationConfig
from glam.evaluation.suites.base import SUITES, LoadedSuite, Suite

if TYPE_CHECKING:
    from glam.data import PreparedData


@SUITES.register
class LmEvalTasks(Suite):
    """Whatever lm-eval has."""

    name = "lm_eval"

    def load(self, evaluation: EvaluationConfig, prepared: "PreparedData | None") -> LoadedSuite:
        from lm_eval.tasks import TaskManager

        loaded = TaskManager().load(list(evaluation.tasks))
        return LoadedSuite(name="+".join(evaluation.tasks), tasks=loaded["tasks"])
