"""`task=generate`: text from a trained run."""

import math
from typing import TYPE_CHECKING, Any

from glam.config import GenerateTaskConfig, RunConfig
from glam.tasks.trained import load_model, trained_run

if TYPE_CHECKING:
    from glam.data import PreparedData
    from glam.model import Glam


def generate(config: RunConfig, overrides: list[str]) -> None:
    """Print samples, each under a rule that numbers it; greedy where `task.temperature` is 0."""
    task = config.task
    assert isinstance(task, GenerateTaskConfig)
    run, config = trained_run(config, overrides)
    model, prepared = load_model(run, config)
    for sample in samples(config, model, prepared, task):
        print(sample["prompt"] + sample["text"], end="\n\n")


def samples(
    config: RunConfig,
    model: "Glam",
    prepared: "PreparedData",
    task: GenerateTaskConfig,
    seconds: float = math.inf,
) -> list[dict[str, Any]]:
    """`{prompt, temperature, text}` of each sample. `seconds` bounds the time of each: a model of
    billions of parameters writes a token in several."""
    from glam.evaluation import generate
    from glam.progress import track

    count = task.samples if task.temperature > 0 else 1  # greedy: they would all be the same
    return [
        {
            "prompt": task.prompt,
            "temperature": task.temperature,
            "text": generate(
                model,
                prepared.tokenizer,
                task.prompt,
                max_tokens=task.max_tokens,
                temperature=task.temperature,
                top_p=task.top_p,
                seed=config.seed + sample,
                context=config.training.sequence_length,
                seconds=seconds,
            ),
        }
        for sample in track(range(count), "generate", count, "samples")
    ]
