"""How a trained model is judged: the section `evaluation`."""

from dataclasses import dataclass, field

from glam.config._checks import positive, whole_numbers, within, words
from glam.errors import UserError

HELD_OUT = "held_out"  # the choice without tasks
OF_TASKS = ("tasks", "num_fewshot", "limit", "data_dir")
MOST_DEMONSTRATIONS = 10_000
OWN = "own"  # in num_fewshot: as many as each task has of its own


@dataclass(kw_only=True)
class EvaluationConfig:
    """Held-out loss per domain, on whole documents; and tasks, zero-, one- and few-shot."""

    # suite of tasks: a file of conf/evaluation; held_out: none. Names of lm-eval's tasks may be
    # typed in its place: evaluation=arc_easy,piqa
    name: str = "embedded"
    tokens_per_domain: int = 60_000  # [tokens] at the end of a run; fewer where a domain has fewer
    points: int = 20  # evaluations during training
    tokens_per_point: int = 4_096  # [tokens] of each domain, in an evaluation during training
    # tasks of the suite that are wanted, or names of lm-eval's tasks; empty: all of the suite
    tasks: list[str] = field(default_factory=lambda: [])
    # demonstrations before each item, a column for each number, as 0,1,own; own, and empty: each
    # task's own number (of the paper's 29 tasks that is its few-shot setting)
    num_fewshot: list[int | str] = field(default_factory=lambda: [])
    limit: int | None = None  # items of a task, the first ones; null: all
    max_length: int = 1024  # [tokens] of prompt and answer together; longer ones lose their start
    data_dir: str | None = None  # folder with the tasks' data; null: the Hugging Face hub

    def __post_init__(self) -> None:
        positive("evaluation.", self, "tokens_per_domain", "tokens_per_point", "limit")
        within("evaluation.", self, 0, 10_000, "points")
        within("evaluation.", self, 2, 1_000_000, "max_length")
        words("evaluation.", self, "tasks")
        whole_numbers("evaluation.", self, 0, MOST_DEMONSTRATIONS, "num_fewshot", word=OWN)
        given = [name for name in OF_TASKS if getattr(self, name)]
        if self.name == HELD_OUT and given:
            raise UserError(
                f"evaluation.{given[0]} is about tasks, and evaluation={HELD_OUT} has none; "
                f"add evaluation=<a suite, or names of lm-eval's tasks>"
            )
