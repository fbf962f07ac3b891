"""The model and the text of these tests."""

from glam.config import ModelConfig

SPARSE = ModelConfig(
    vocab_size=288, num_layers=2, d_model=16, d_ff=8, num_heads=2, num_experts=4, moe_every=2
)
SAMPLE = "Thus 7 then 13, and the people of the north went home.\n\nBuy 3 ... then .. 9! "
