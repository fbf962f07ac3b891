"""`task=generate`: text from a trained run."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glam.config import GenerateTaskConfig, RunConfig
from glam.tasks.trained import load_model, load_tokenizer, trained_run

if TYPE_CHECKING:
    from glam.data import Tokenizer
    from glam.model import Glam

RULE = "─"
SHORTEST_RULE = 12  # characters


def generate(config: RunConfig, overrides: list[str]) -> None:
    """Print samples: a JSON object a line, or text, several of them under numbered rules."""
    task = config.task
    assert isinstance(task, GenerateTaskConfig)
    run, config = trained_run(config, overrides)
    model = load_model(run, config)
    written = samples(config, model, load_tokenizer(run, config), task)
    if task.format == "json":
        for sample in written:
            print(json.dumps(sample, ensure_ascii=False))
    else:
        print(under_rules([sample["prompt"] + sample["text"] for sample in written]))


def under_rules(texts: Sequence[str]) -> str:
    """Texts one after the other, each under a line that numbers it. The line's rule is longer
    than any in the texts, so that no text can contain it. One text stands alone."""
    if len(texts) == 1:
        return texts[0]
    length = SHORTEST_RULE
    while any(RULE * length in text for text in texts):
        length += 1
    rule, count = RULE * length, len(texts)
    return "\n".join(f"{rule} sample {n} of {count}\n{text}" for n, text in enumerate(texts, 1))


def samples(
    config: RunConfig,
    model: "Glam",
    tokenizer: "Tokenizer",
    task: GenerateTaskConfig,
    seconds: float = math.inf,
) -> list[dict[str, Any]]:
    """`{prompt, temperature, text}` of each sample; one alone where `task.temperature` is 0, since
    greedy samples are equal. A sample ends after `seconds`: a model of billions of parameters may
    take several for a token."""
    from glam.evaluation import generate
    from glam.progress import track

    count = task.samples if task.temperature > 0 else 1
    return [
        {
            "prompt": task.prompt,
            "temperature": task.temperature,
            "text": generate(
                model,
                tokenizer,
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
