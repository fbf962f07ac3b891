"""`config.json` of an exported folder: the shape of its model, by the names that Hugging Face's
libraries know."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glam.config import ModelConfig, RouterConfig
from glam.files import read_json, strict

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_TYPE = "glam_moe"
WAY_OUT = "name a run, or a folder that task=export wrote"
# Called alike there and here. Their `generate` would take `top_k` for a setting of its own.
SAME = (
    *("vocab_size", "num_layers", "d_model", "d_ff", "num_heads", "num_experts", "moe_every"),
    *("position_buckets", "position_max_distance", "logit_cap"),
)


@strict(unknown="allow")
@dataclass(frozen=True, kw_only=True)
class ExportedConfig:
    """What of `config.json` a run takes up again."""

    model_type: str
    vocab_size: int
    num_layers: int
    d_model: int
    d_ff: int
    num_heads: int
    head_dim: int
    num_experts: int
    num_experts_per_tok: int
    moe_every: int
    normalize_gates: bool
    position_buckets: int
    position_max_distance: int
    logit_cap: float | None
    tokenizer_sha256: str
    biased_choice: bool = False  # what was exported before there was one says nothing of it

    @property
    def model(self) -> ModelConfig:
        """Raises UserError for a shape that no model has."""
        return ModelConfig(
            **{name: getattr(self, name) for name in SAME},
            top_k=self.num_experts_per_tok,
            d_head=self.head_dim,
            router=RouterConfig(
                normalize=self.normalize_gates,
                balance_loss="loss_free" if self.biased_choice else "gshard",
            ),
        )


def shape_of(model: ModelConfig) -> dict[str, Any]:
    """The shape of a model as `config.json` has it."""
    return {
        **{name: getattr(model, name) for name in SAME},
        "num_experts_per_tok": model.top_k,
        "head_dim": model.head_size,
        "normalize_gates": model.router.normalize,
        "biased_choice": model.moves_bias,
    }


def read_exported(folder: Path) -> ExportedConfig:
    """Raises UserError for a folder that task=export did not write."""
    return read_json(folder / CONFIG, ExportedConfig, way_out=WAY_OUT)
