"""The models of the paper as it published them (Du et al., arXiv 2112.06905, table 4)."""

from typing import NamedTuple

from glam.config import ModelConfig

VOCABULARY = 256_000
EXPERTS_EVERY = 2


class PaperModel(NamedTuple):
    """One row of table 4. Parameters are without embeddings, as the paper counts."""

    name: str  # in conf/model/
    label: str  # in the paper
    total: float
    active: float  # met by one token
    num_layers: int
    d_model: int
    d_ff: int
    num_heads: int
    d_head: int
    num_experts: int  # 1: dense
    note: str = ""  # where the table is at odds with its own shapes

    def config(self) -> ModelConfig:
        return ModelConfig(
            name=self.name,
            vocab_size=VOCABULARY,
            num_layers=self.num_layers,
            d_model=self.d_model,
            d_ff=self.d_ff,
            num_heads=self.num_heads,
            d_head=self.d_head,
            num_experts=self.num_experts,
            moe_every=EXPERTS_EVERY if self.num_experts > 1 else 0,
        )


_SMALL = (12, 768, 3_072, 12, 64)
_MEDIUM = (24, 2_048, 8_192, 16, 128)
_LARGE = (32, 4_096, 16_384, 32, 128)
_32E = "the shape it states holds 13.9 B, between neighbours that do fit theirs"

PAPER_MODELS: dict[str, PaperModel] = {
    model.name: model
    for model in (
        PaperModel("glam_100m", "0.1B", 130e6, 130e6, *_SMALL, 1),
        PaperModel("glam_100m64e", "0.1B/64E", 1.9e9, 145e6, *_SMALL, 64),
        PaperModel("glam_1b", "1.7B", 1.7e9, 1.700e9, *_MEDIUM, 1),
        PaperModel("glam_1b32e", "1.7B/32E", 20e9, 1.878e9, *_MEDIUM, 32, _32E),
        PaperModel("glam_1b64e", "1.7B/64E", 27e9, 1.879e9, *_MEDIUM, 64),
        PaperModel("glam_1b128e", "1.7B/128E", 53e9, 1.881e9, *_MEDIUM, 128),
        PaperModel("glam_1b256e", "1.7B/256E", 105e9, 1.886e9, *_MEDIUM, 256),
        PaperModel("glam_8b", "8B", 8.7e9, 8.7e9, *_LARGE, 1),
        PaperModel("glam_8b64e", "8B/64E", 143e9, 9.8e9, *_LARGE, 64),
        PaperModel("glam_137b", "137B", 137e9, 137e9, 64, 8_192, 65_536, 128, 128, 1),
        PaperModel("glam_64b64e", "64B/64E", 1.2e12, 96.6e9, 64, 8_192, 32_768, 128, 128, 64),
    )
}


def published(model: ModelConfig) -> PaperModel | None:
    """The paper's model of the same shape; name and vocabulary may differ. None where there is
    none."""
    for paper in PAPER_MODELS.values():
        if _shape(paper.config()) == _shape(model):
            return paper
    return None


def _shape(model: ModelConfig) -> tuple[int, ...]:
    experts = (model.num_experts, model.moe_every, model.top_k) if model.moe_every else ()
    layer = (model.d_model, model.d_ff, model.num_heads, model.head_size)
    return (model.num_layers, *layer, *experts)
