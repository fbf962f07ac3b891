"""`task=generate`: text from a trained run."""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from glam.config import GenerateTaskConfig, RunConfig
from glam.errors import UserError
from glam.machine.resources import pin_threads, resolve
from glam.progress import stage
from glam.runs.folder import RunFolder
from glam.tasks.trained import experts_as_asked, load_model, load_tokenizer, trained_run

if TYPE_CHECKING:
    from glam.data import Tokenizer
    from glam.evaluation import Beams, Sampling
    from glam.model import Glam
    from glam.model.decoding.decoder import Decoder

RULE = "─"
SHORTEST_RULE = 12  # characters


def generate(config: RunConfig, overrides: list[str]) -> None:
    """Print samples: a JSON object a line, or text, several of them under numbered rules. On a
    terminal text is shown as it is made."""
    task = config.task
    assert isinstance(task, GenerateTaskConfig)
    run, config = trained_run(config, overrides)
    tokenizer = load_tokenizer(run, config)
    model, decoder = _loaded(run, config, task)
    if _streams(task):
        return _stream(config, model, tokenizer, task, decoder)
    written = samples(config, model, tokenizer, task, decoder=decoder)
    if task.format == "json":
        for sample in written:
            print(json.dumps(sample, ensure_ascii=False))
    else:
        print(under_rules([sample["prompt"] + sample["text"] for sample in written]))
    return None


def _loaded(
    run: RunFolder, config: RunConfig, task: GenerateTaskConfig
) -> "tuple[Glam, Decoder | None]":
    """The model, and the decoder that has its experts where they are not all in memory as they
    are."""
    if task.memory_mb is None and task.expert_type == "float32":
        return load_model(run, config), None
    if task.expert_scale:
        raise UserError(
            "task.expert_scale is not for experts that are read from the checkpoint; leave out "
            "task.memory_mb and task.expert_type"
        )
    resources = resolve(config)
    if resources.device != "cpu":
        raise UserError(
            f"task.memory_mb and task.expert_type=int8 are for the CPU, not for "
            f"hardware.device={resources.device}; add hardware.device=cpu, or leave them out"
        )
    pin_threads(resources)
    with stage("loading PyTorch"):
        import torch

        from glam.model.decoding.serve import serve

    torch.set_num_threads(resources.threads)
    dtype = torch.bfloat16 if resources.precision == "bfloat16" else torch.float32
    pool = None if task.memory_mb is None else int(task.memory_mb * 1e6)
    served = serve(run.path, dtype=dtype, int8=task.expert_type == "int8", pool_bytes=pool)
    return experts_as_asked(served.model, config), served.decoder


def _streams(task: GenerateTaskConfig) -> bool:
    if task.stream is not None:
        return task.stream
    return task.format == "text" and task.beams == 1 and sys.stdout.isatty()


def _stream(
    config: RunConfig,
    model: "Glam",
    tokenizer: "Tokenizer",
    task: GenerateTaskConfig,
    decoder: "Decoder | None",
) -> None:
    """One sample after the other, each as it is made. Its texts are not known when a rule is drawn,
    which one of them could therefore contain."""
    from glam.evaluation import generate
    from glam.evaluation.generation import Stream

    count = _count(task)
    for number in range(count):
        if count > 1:
            print(f"{RULE * SHORTEST_RULE} sample {number + 1} of {count}")
        print(task.prompt, end="", flush=True)
        stream = Stream(tokenizer, task.prompt)
        generate(
            model,
            tokenizer,
            [task.prompt],
            search_of(task, config.seed + number),
            max_tokens=task.max_tokens,
            context=config.training.sequence_length,
            on_token=lambda _, token, stream=stream: print(stream.add(token), end="", flush=True),
            decoder=decoder,
        )
        print(stream.rest())


def search_of(task: GenerateTaskConfig, seed: int) -> "Sampling | Beams":
    """How tokens are chosen."""
    from glam.evaluation import Beams, LengthPenalty, Sampling

    if task.beams > 1:
        return Beams(task.beams, LengthPenalty(task.length_penalty, task.length_penalty_form))
    return Sampling(task.temperature, task.top_p, seed)


def _count(task: GenerateTaskConfig) -> int:
    """Samples: one where all would be equal."""
    return task.samples if task.temperature > 0 and task.beams == 1 else 1


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
    decoder: "Decoder | None" = None,
) -> list[dict[str, Any]]:
    """`{prompt, temperature, text}` of each sample; one alone where `task.temperature` is 0 or
    beams are searched, since all would be equal. A sample ends after `seconds`: a model of
    billions of parameters may take several for a token."""
    from glam.evaluation import generate

    count = _count(task)
    with _shown(task, count) as on_token:
        texts = generate(
            model,
            tokenizer,
            [task.prompt] * count,
            search_of(task, config.seed),
            max_tokens=task.max_tokens,
            context=config.training.sequence_length,
            seconds=seconds,
            on_token=on_token,
            decoder=decoder,
        )
    about = {"prompt": task.prompt, "temperature": task.temperature}
    return [{**about, "text": text} for text in texts]


@contextlib.contextmanager
def _shown(task: GenerateTaskConfig, count: int) -> Generator[Callable[[int, int], None]]:
    """A bar of the tokens of `count` samples, and what it has to be told of each."""
    from glam.progress import Bar

    if task.beams > 1:  # whose tokens are known at the end
        with stage("searching"):
            yield lambda text, token: None
        return
    with Bar("generate", count * task.max_tokens, "tokens") as bar:
        yield lambda text, token: bar.advance(1)
