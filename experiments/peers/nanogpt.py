"""A dense decoder as nanoGPT has it: layer norms, one matrix for queries, keys and values, SDPA,
two matrices around a GELU, learned positions, tied embeddings. A layer has as many hidden units as
give it the FLOPs of our layer in its place: of two experts, or of the GEGLU between them."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from glam.config import ModelConfig


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, d_model: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.up = nn.Linear(d_model, hidden, bias=False)
        self.down = nn.Linear(hidden, d_model, bias=False)

    def forward(self, x_BSM: Tensor) -> Tensor:
        B, S, M = x_BSM.shape
        q, k, v = (
            part.view(B, S, self.num_heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm_1(x_BSM)).split(M, 2)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BSM = x_BSM + self.out(y.transpose(1, 2).reshape(B, S, M))
        return x_BSM + self.down(functional.gelu(self.up(self.norm_2(x_BSM))))


class NanoGPT(nn.Module):
    """Loss in nats of the next tokens."""

    def __init__(self, config: ModelConfig, length: int) -> None:
        super().__init__()
        M, H = config.d_model, config.d_ff
        self.tokens = nn.Embedding(config.vocab_size, M)
        self.positions = nn.Embedding(length, M)
        hidden = [
            2 * H if config.is_moe_layer(index) else 3 * H // 2
            for index in range(config.num_layers)
        ]
        self.blocks = nn.ModuleList(Block(M, config.num_heads, units) for units in hidden)
        self.norm = nn.LayerNorm(M)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens_BS: Tensor, targets_BS: Tensor) -> Tensor:
        places = torch.arange(tokens_BS.shape[1])
        x_BSM = self.tokens(tokens_BS) + self.positions(places)
        for block in self.blocks:
            x_BSM = block(x_BSM)
        logits = functional.linear(self.norm(x_BSM), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets_BS.flatten())
