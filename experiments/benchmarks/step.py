"""A whole training step (forward, backward, update) against Hugging Face's Mixtral, and against
our own dense twin.

Sizes are equal, every layer has experts, embeddings are tied, the optimizer is the same fused
AdamW, and the experts have the same FLOPs and parameters (or slightly fewer in Mixtral). Ours
trains a position bias in every layer; Mixtral has rotary positions and none. In bfloat16 both keep
float32 weights (Mixtral by autocast); `bfloat16 weights` gives that up, and is Mixtral's best case.
"""

from collections.abc import Iterator

import torch

from experiments.benchmarks.layer import TYPES
from experiments.benchmarks.peers import LEARNING_RATE, mixtral, mixtral_trainer
from experiments.benchmarks.timing import Work, interleaved
from glam.config import AdamWConfig, ModelConfig, RunConfig, TrainingConfig
from glam.model import Glam
from glam.training.optimizers import build_optimizer

LARGE = ModelConfig(
    vocab_size=8192, num_layers=4, d_model=256, d_ff=1024, num_heads=4, num_experts=16, moe_every=1
)
ROWS, LENGTH = 4, 512


def measure() -> Iterator[dict[str, object]]:
    for name, dtype in TYPES.items():
        works = {
            "Mixtral": mixtral(LARGE, dtype, ROWS, LENGTH),
            "Mixtral, HF Trainer": mixtral_trainer(LARGE, dtype, ROWS, LENGTH),
            "glam": step(LARGE, dtype, ROWS, LENGTH),
        }
        if dtype == torch.bfloat16:
            works["Mixtral, bfloat16 weights"] = mixtral(LARGE, dtype, ROWS, LENGTH, narrow=True)
        for row in interleaved(works, "Mixtral", rounds=5, label=f"step {name}"):
            ours = row["candidate"] == "glam"
            share = _share_of_peak(LARGE, ROWS, LENGTH, dtype, row["ms"]) if ours else None
            yield _row("L 4 M 256 E 16", name, ROWS * LENGTH, row) | {"share_of_peak": share}
    yield from _default()


def _default() -> Iterator[dict[str, object]]:
    works = {
        f"glam E {E}": step(ModelConfig(num_experts=E), torch.bfloat16, 8, 128)
        for E in (1, 8, 16, 32, 64)
    }
    for row in interleaved(works, "glam E 1", rounds=25, turn=0.4, label="step, default size"):
        yield _row("default", "bfloat16", 8 * 128, row)


def _row(size: str, dtype: str, tokens: int, row: dict[str, object]) -> dict[str, object]:
    milliseconds = row["ms"]
    assert isinstance(milliseconds, float)
    return {"size": size, "dtype": dtype, **row, "tokens_per_s": 1e3 * tokens / milliseconds}


def step(config: ModelConfig, dtype: torch.dtype, rows: int, length: int) -> Work:
    """What `TrainingModule` does for a batch of two documents a row, without Lightning."""
    model = Glam(config, dtype=dtype)
    optimizer = build_optimizer(AdamWConfig(learning_rate=LEARNING_RATE), model)
    batches = [_skewed(config.vocab_size, rows, length + 1) for _ in range(8)]
    segments = (torch.arange(length) >= length // 2).long().expand(rows, -1)
    parameters = list(model.parameters())

    def work() -> None:
        batch = batches[0]
        batches.append(batches.pop(0))
        output = model.loss(batch[:, :-1], batch[:, 1:], segments)
        (output.loss + output.balance_loss).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if norm.item() > 1:
            torch.nn.utils.clip_grads_with_norm_(parameters, 1.0, norm)
        optimizer.step()
        optimizer.zero_grad()

    return work


def _skewed(vocabulary: int, rows: int, length: int) -> torch.Tensor:
    """Tokens some of which are more frequent than others, so that experts are unevenly loaded."""
    return (torch.rand(rows, length).square() * vocabulary).long()


def _share_of_peak(
    config: ModelConfig, rows: int, length: int, dtype: torch.dtype, milliseconds: object
) -> float:
    """The model's FLOPs a second over the best that a large square product reaches here."""
    assert isinstance(milliseconds, float)
    training = TrainingConfig(batch_size=rows, sequence_length=length)
    flops = 3 * RunConfig(model=config, training=training).flops_per_token * rows * length
    return flops / (milliseconds / 1e3) / gemm_peak(dtype)


def gemm_peak(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOPs a second."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    rows = interleaved({"product": lambda: torch.mm(a, b)}, "product", label="GEMM peak")
    milliseconds = rows[0]["ms"]
    assert isinstance(milliseconds, float)
    return 2 * size**3 / (milliseconds / 1e3)
