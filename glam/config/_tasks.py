"""What is done with a configuration: the section `task`, a class for each file of `conf/task` that
has keys of its own."""

import re
from dataclasses import dataclass, field

from glam.config._checks import positive, unencodable, within, words
from glam.errors import UserError, one_of

TASKS = (
    *("train", "plan", "prepare", "evaluate", "analyze", "bias", "generate", "export", "report"),
    "list",
)
TABLE_FORMATS = ("table", "json", "csv")
COMPILE_ROUTES = ("torch_tpu", "torch_xla")
GENERATE_FORMATS = ("text", "json")
LENGTH_PENALTIES = ("power", "gnmt")  # forms of the length penalty of a beam search
SCALED = re.compile(r"(\d{1,9})/(\d{1,9}):(\d{1,9}(?:\.\d{1,9})?)", re.ASCII)  # layer/expert:number
MOST_SCALE = 100  # of an expert's gates
EXPERT_TYPES = ("float32", "int8")
COLDEST = 1e-3  # temperature: below, a softmax of its logits is greedy or overflows


@dataclass(kw_only=True)
class TaskConfig:
    """What is done with the configuration."""

    # train | plan | prepare | evaluate | analyze | bias | generate | export | report | list, a file
    # of conf/task
    name: str = "train"

    def __post_init__(self) -> None:
        one_of("task.name", self.name, TASKS)


@dataclass(kw_only=True)
class ScaledExpertsConfig(TaskConfig):
    """A task that may take up a run with some experts scaled."""

    # what gates of an expert are multiplied by, as [1/3:0,1/5:0.5]: expert 3 of layer 1 is left
    # out, and half of expert 5 remains
    expert_scale: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        super().__post_init__()
        words("task.", self, "expert_scale")
        for entry in self.expert_scale:
            if not SCALED.fullmatch(entry):
                raise UserError(
                    f"task.expert_scale=[{entry}] names no layer, expert and number; "
                    f"task.expert_scale=[1/3:0.5] halves expert 3 of layer 1"
                )
            if float(entry.partition(":")[2]) > MOST_SCALE:
                raise UserError(f"task.expert_scale=[{entry}] must lie between 0 and {MOST_SCALE}")
        if len(self.scales) < len(self.expert_scale):
            raise UserError(f"task.expert_scale={self.expert_scale} names an expert twice")

    @property
    def scales(self) -> dict[tuple[int, int], float]:
        """What the gates of an expert are multiplied by, by layer and expert."""
        found = [SCALED.fullmatch(entry) for entry in self.expert_scale]
        return {(int(one[1]), int(one[2])): float(one[3]) for one in found if one}


@dataclass(kw_only=True)
class FewerExpertsConfig(ScaledExpertsConfig):
    """A task that may take up a run with fewer experts for a token."""

    # [gate] above which an expert after a token's first is used; null: all, as in training
    active_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.active_threshold is not None:
            within("task.", self, 0, 1, "active_threshold")


@dataclass(kw_only=True)
class EvaluateTaskConfig(FewerExpertsConfig):
    """Held-out loss of a trained run, and its scores on tasks."""

    name: str = "evaluate"


@dataclass(kw_only=True)
class ExportTaskConfig(ScaledExpertsConfig):
    """A trained run as a folder that Hugging Face's libraries load."""

    name: str = "export"


@dataclass(kw_only=True)
class BiasTaskConfig(ScaledExpertsConfig):
    """What a trained run associates with groups of people, and through which experts."""

    name: str = "bias"
    samples: int = 20  # texts that continue each prompt, for words and toxicity; 0: none
    max_tokens: int = 20  # [tokens] of a text, at most
    shuffles: int = 2000  # of what is associated, for what chance alone gives
    by_expert: bool = True  # also with each expert left out in turn

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("task.", self, "max_tokens")
        within("task.", self, 0, 100_000, "samples")
        within("task.", self, 100, 1_000_000, "shuffles")


@dataclass(kw_only=True)
class GenerateTaskConfig(FewerExpertsConfig):
    """Text from a trained run."""

    name: str = "generate"
    prompt: str = "The people of"  # text that the samples continue
    max_tokens: int = 100  # [tokens] of a sample, at most
    temperature: float = 0.8  # of the softmax; 0: greedy, the likeliest token each time
    top_p: float = 0.95  # [share] nucleus sampling: of the probability that is drawn from
    beams: int = 1  # width of a beam search, the best text of which is taken; 1: none
    length_penalty: float = 1.0  # exponent of what a beam's log-probability is divided by
    # what has that exponent, of n tokens: power (n, as Hugging Face) | gnmt ((5 + n) / 6, as GPT-3)
    length_penalty_form: str = "power"
    samples: int = 3  # how many texts; greedy and by beams: one, since they would be equal
    expert_type: str = "float32"  # of experts in memory: float32 | int8, a quarter of the bytes
    memory_mb: float | None = None  # [MB] for experts, read as they are used; null: all in memory
    stream: bool | None = None  # show text as it is made; null: on a terminal
    format: str = "text"  # text (a numbered rule above each sample) | json (an object a line)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("task.", self, "max_tokens", "samples")
        within("task.", self, 0, 100, "temperature")
        if 0 < self.temperature < COLDEST:
            raise UserError(
                f"task.temperature={self.temperature} is below {COLDEST}; 0 takes the likeliest "
                f"token each time"
            )
        if (broken := unencodable(self.prompt)) is not None:
            raise UserError(f"task.prompt is not UTF-8 (at {broken}); type it in UTF-8")
        within("task.", self, 1e-6, 1, "top_p")
        one_of("task.format", self.format, GENERATE_FORMATS)
        within("task.", self, 1, 1000, "beams")
        within("task.", self, -100, 100, "length_penalty")
        one_of("task.length_penalty_form", self.length_penalty_form, LENGTH_PENALTIES)
        one_of("task.expert_type", self.expert_type, EXPERT_TYPES)
        if self.memory_mb is not None:
            positive("task.", self, "memory_mb")
        if not self.prompt:
            raise UserError("task.prompt is empty; give the text that samples continue")
        if self.stream and (self.beams > 1 or self.format != "text"):
            other = f"task.beams={self.beams}" if self.beams > 1 else f"task.format={self.format}"
            raise UserError(
                f"task.stream=true but {other} has no text before its end; leave one of them out"
            )


@dataclass(kw_only=True)
class AnalyzeTaskConfig(TaskConfig):
    """What the experts of a trained run specialise in."""

    name: str = "analyze"
    shuffles: int = 200  # of documents, for what chance alone gives

    def __post_init__(self) -> None:
        super().__post_init__()
        within("task.", self, 20, 1_000_000, "shuffles")


@dataclass(kw_only=True)
class ListTaskConfig(TaskConfig):
    """The runs and studies in `runs_dir`."""

    name: str = "list"
    format: str = "table"  # table | json | csv

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("task.format", self.format, TABLE_FORMATS)


@dataclass(kw_only=True)
class PlanTaskConfig(TaskConfig):
    """What a run needs and costs, before a byte is allocated."""

    name: str = "plan"
    format: str = "table"  # table (and a page, plan.html) | json | csv
    calibrate: bool = False  # measure the throughput by a few steps here, instead of modelling it
    compile: bool = False  # ask the TPU's compiler too; needs no TPU
    # what makes the program that it compiles: torch_tpu (make tpu) | torch_xla (make xla); null:
    # torch_tpu where it is installed
    compile_with: str | None = None
    imbalance: float = 1.25  # [ratio] dropless: rows of the busiest device's experts over the mean

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("task.format", self.format, TABLE_FORMATS)
        within("task.", self, 1, 1000, "imbalance")
        if self.compile_with is not None:
            one_of("task.compile_with", self.compile_with, COMPILE_ROUTES)
            if not self.compile:
                raise UserError(
                    f"task.compile_with={self.compile_with} is for task.compile=true; set it too"
                )
