"""A training step beside HF Mixtral, OLMoE and Qwen3-MoE (`grouped_mm`), a dense model as nanoGPT
writes it at equal FLOPs, and our own model under `torch.compile`.

All tie embeddings, clip gradients and update by fused AdamW. Ours trains a position bias in every
layer; the peers have rotary or learned positions. In the small model experts are in every other
layer, the peers' in each, with as many FLOPs in all. `torch.compile` gets our model as it runs
without kernels, since inductor cannot see into them; compiling is not counted, and stands in
`first_s`.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from experiments.benchmarks.layer import TYPES
from experiments.benchmarks.peers import LEARNING_RATE, narrower
from experiments.benchmarks.step import LARGE, step
from experiments.benchmarks.timing import Work, interleaved
from experiments.peers.nanogpt import NanoGPT
from glam import kernels
from glam.config import AdamWConfig, ModelConfig
from glam.model import Glam
from glam.training.optimizers import build_optimizer

Row = dict[str, object]
BASELINE = "HF Mixtral"
SIZES = {"default": (ModelConfig(), 8, 128), "L 4 M 256 E 16": (LARGE, 4, 512)}


def measure(rounds: int = 5) -> Iterator[Row]:
    for size, (config, rows, length) in SIZES.items():
        for name, dtype in TYPES.items():
            works = _works(config, dtype, rows, length)
            first = {candidate: _seconds(work) for candidate, work in works.items()}
            label = f"step {size} {name}"
            for row in interleaved(works, BASELINE, rounds=rounds, turn=0.2, label=label):
                about = {"work": "training step", "shape": size, "dtype": name}
                yield {**about, **row, "first_s": first[str(row["candidate"])]}


def _seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _works(config: ModelConfig, dtype: torch.dtype, rows: int, length: int) -> dict[str, Work]:
    torch.manual_seed(0)
    works = {name: make(config, dtype, rows, length) for name, make in HUGGING_FACE.items()}
    works["nanoGPT, dense"] = _nanogpt(config, dtype, rows, length)
    works["glam"] = step(config, dtype, rows, length)
    works["glam, torch.compile"] = compiled(config, dtype, rows, length)
    return works


def _hidden(config: ModelConfig) -> int:
    """Of a SwiGLU expert in every layer, so that all layers together have the FLOPs of ours."""
    moe = config.num_moe_layers
    dense = config.num_layers - moe
    units = (8 * moe + 6 * dense) * config.d_ff / config.num_layers  # FLOPs a token, over d_model
    return narrower(int(units / 8 * 1.0001))


def _peer(config: ModelConfig, kind: str) -> Any:
    import transformers

    names = {"Mixtral": "num_local_experts", "Olmoe": "num_experts", "Qwen3Moe": "num_experts"}
    hidden = "moe_intermediate_size" if kind == "Qwen3Moe" else "intermediate_size"
    settings: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        hidden: _hidden(config),
        names[kind]: config.num_experts,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_heads,
        "num_experts_per_tok": config.top_k,
        "output_router_logits": True,
        "tie_word_embeddings": True,
        "experts_implementation": "grouped_mm",
    }
    if kind == "Qwen3Moe":
        settings["head_dim"] = config.head_size
    chosen = getattr(transformers, f"{kind}Config")(**settings)
    return getattr(transformers, f"{kind}ForCausalLM")(chosen).train()


def _hugging_face(kind: str) -> Callable[..., Work]:
    def make(config: ModelConfig, dtype: torch.dtype, rows: int, length: int) -> Work:
        model = _peer(config, kind)
        tokens = torch.randint(0, config.vocab_size, (rows, length))
        return _loop(
            model,
            dtype,
            lambda: model(input_ids=tokens, labels=tokens, use_cache=False).loss,
        )

    return make


HUGGING_FACE: dict[str, Callable[..., Work]] = {
    BASELINE: _hugging_face("Mixtral"),
    "HF OLMoE": _hugging_face("Olmoe"),
    "HF Qwen3-MoE": _hugging_face("Qwen3Moe"),
}


def _nanogpt(config: ModelConfig, dtype: torch.dtype, rows: int, length: int) -> Work:
    model = NanoGPT(config, length)
    tokens = torch.randint(0, config.vocab_size, (rows, length + 1))
    return _loop(model, dtype, lambda: model(tokens[:, :-1], tokens[:, 1:]))


def _loop(model: Any, dtype: torch.dtype, loss: Callable[[], Any]) -> Work:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = loss()
        found.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return work


def compiled(config: ModelConfig, dtype: torch.dtype, rows: int, length: int) -> Work:
    """Our model on torch's operators, compiled by inductor."""
    model = Glam(config, dtype=dtype)
    optimizer = build_optimizer(AdamWConfig(learning_rate=LEARNING_RATE), model)
    forward = torch.compile(model.loss)
    tokens = torch.randint(0, config.vocab_size, (rows, length + 1))
    segments = (torch.arange(length) >= length // 2).long().expand(rows, -1)

    def work() -> None:
        with kernels.switched_off():
            output = forward(tokens[:, :-1], tokens[:, 1:], segments)
            (output.loss + output.balance_loss).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return work
