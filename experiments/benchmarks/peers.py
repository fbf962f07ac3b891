"""Other libraries' MoE layers and models at the same sizes; none where they are not installed."""

import importlib
import importlib.util
import tempfile
import threading
import warnings
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from experiments.benchmarks.timing import Work
from glam.config import ModelConfig

LEARNING_RATE = 1e-6  # so small that routing stays as drawn, even, however long one measures


def narrower(hidden: int) -> int:
    """The width of a SwiGLU with the FLOPs of two matrices of `hidden`, in 16 byte strides."""
    return 2 * hidden // 3 // 16 * 16


def moe_blocks(M: int, H: int, E: int, top_k: int) -> dict[str, nn.Module]:
    """By name; each maps `[B, S, M]` to the same, alone or first of a tuple."""
    if importlib.util.find_spec("transformers") is None:
        return {}
    from transformers import OlmoeConfig, Qwen3MoeConfig
    from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    common: dict[str, Any] = {
        "hidden_size": M,
        "num_experts_per_tok": top_k,
        "experts_implementation": "grouped_mm",
    }
    hidden = narrower(H)
    return {
        "HF Mixtral": mixtral_block(M, H, E, top_k),
        "HF OLMoE": _drawn(
            OlmoeSparseMoeBlock(OlmoeConfig(intermediate_size=hidden, num_experts=E, **common))
        ),
        "HF Qwen3-MoE": _drawn(
            Qwen3MoeSparseMoeBlock(
                Qwen3MoeConfig(moe_intermediate_size=hidden, num_experts=E, **common)
            )
        ),
    }


def mixtral_block(M: int, H: int, E: int, top_k: int) -> nn.Module:
    """Mixtral's layer. Raises ImportError where transformers is not installed."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=M,
        intermediate_size=narrower(H),
        num_local_experts=E,
        num_experts_per_tok=top_k,
        experts_implementation="grouped_mm",
    )
    return _drawn(MixtralSparseMoeBlock(config))


def titan_block(M: int, H: int, E: int, top_k: int) -> dict[str, nn.Module]:
    """torchtitan's layer, whose experts multiply in bfloat16 whatever they are given."""
    if importlib.util.find_spec("torchtitan") is None:
        return {}
    warnings.filterwarnings("ignore", message="In CPU autocast")  # its gate asks for float32
    common: Any = importlib.import_module("torchtitan.models.common.moe")
    linear: Any = importlib.import_module("torchtitan.models.common.linear")
    dispatch: Any = importlib.import_module("torchtitan.models.common.token_dispatcher")
    experts = common.GroupedExperts.Config(dim=M, hidden_dim=narrower(H), num_experts=E)
    config = common.MoE.Config(
        num_experts=E,
        load_balance_coeff=None,
        routed_experts=common.RoutedExperts.Config(
            inner_experts=experts,
            token_dispatcher=dispatch.LocalTokenDispatcher.Config(num_experts=E, top_k=top_k),
        ),
        router=common.TokenChoiceTopKRouter.Config(
            num_experts=E,
            gate=linear.Linear.Config(in_features=M, out_features=E, bias=False),
            top_k=top_k,
            score_func="softmax",
            route_norm=True,
        ),
    )
    return {"torchtitan": _drawn(config.build())}


def _drawn(block: nn.Module) -> nn.Module:
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return block


def _model(config: ModelConfig) -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            intermediate_size=narrower(config.d_ff),
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            num_local_experts=config.num_experts,
            num_experts_per_tok=config.top_k,
            output_router_logits=True,
            tie_word_embeddings=True,
            experts_implementation="grouped_mm",
        )
    )


def _autocast(dtype: torch.dtype, narrow: bool, device: str) -> Any:
    wanted = dtype == torch.bfloat16 and not narrow
    return torch.autocast(device, torch.bfloat16) if wanted else nullcontext()


def mixtral(
    config: ModelConfig,
    dtype: torch.dtype,
    rows: int,
    length: int,
    *,
    narrow: bool = False,
    device: str = "cpu",
) -> Work:
    """A step in a plain loop."""
    with torch.device(device):
        model = _model(config).train()
    if narrow:
        model = model.to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    tokens = torch.randint(0, config.vocab_size, (rows, length), device=device)

    def work() -> None:
        with _autocast(dtype, narrow, device):
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return work


def mixtral_trainer(config: ModelConfig, dtype: torch.dtype, rows: int, length: int) -> Work:
    """A step of a running HF Trainer, which waits in its own thread between two steps."""
    from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

    go, done = threading.Semaphore(0), threading.Semaphore(0)

    class TakesTurns(TrainerCallback):
        def on_train_begin(self, *args: object, **kwargs: object) -> None:
            go.acquire()

        def on_step_end(self, *args: object, **kwargs: object) -> None:
            done.release()
            go.acquire()

    tokens = torch.randint(0, config.vocab_size, (1000, length))
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=rows,
        max_steps=10**6,
        use_cpu=True,
        bf16=dtype == torch.bfloat16,
        optim="adamw_torch_fused",
        learning_rate=LEARNING_RATE,
        logging_steps=20,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=_model(config),
        args=arguments,
        train_dataset=[{"input_ids": row, "labels": row} for row in tokens],
        data_collator=default_data_collator,
        callbacks=[TakesTurns()],
    )

    def train() -> None:
        torch.set_num_threads(1)  # a thread has its own
        trainer.train()

    threading.Thread(target=train, daemon=True).start()

    def work() -> None:
        go.release()
        done.acquire()

    return work
