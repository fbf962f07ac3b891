"""Causal self-attention with a relative position bias (paper, section 4), within documents."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glam.config import ModelConfig
from glam.model.attention.blocks import block_attention
from glam.model.attention.cpu_kernel import head_attention, kernel_supported
from glam.model.attention.position import PositionBias
from glam.model.cpu_products import linear
from glam.model.precision import at_least_float32


class DocumentMask(NamedTuple):
    """Which keys a query sees, for fused attention: those of its own document, up to itself."""

    blocks: Any  # a BlockMask of FlexAttention
    segments: Int[Tensor, "B S"]


# To add to the logits, or what a fused attention takes; None: all rows are one document.
Mask = Float[Tensor, "B S S"] | DocumentMask | None
# `(equation, a, b) -> product`, as torch.einsum.
Einsum = Callable[[str, Tensor, Tensor], Tensor]


def document_mask(segments_BS: Int[Tensor, "B S"], dtype: torch.dtype) -> Float[Tensor, "B S S"]:
    """A mask to add to the logits: -inf between tokens of different documents, else 0."""
    other = segments_BS[:, :, None] != segments_BS[:, None, :]
    return torch.zeros(other.shape, dtype=dtype, device=other.device).masked_fill_(
        other, -torch.inf
    )


def plain_attention(
    q_BNSD: Float[Tensor, "B N S D"],
    k_BNSD: Float[Tensor, "B N S D"],
    v_BNSD: Float[Tensor, "B N S D"],
    bias_NSS: Float[Tensor, "N S S"],
    mask_BSS: Float[Tensor, "B S S"] | None,
    einsum: Einsum = torch.einsum,
) -> Float[Tensor, "B N S D"]:
    """Attention by its definition, with logits in float32 at least. The bias is -inf where a key is
    ahead of the query."""
    logits = at_least_float32(einsum("bnqd,bnkd->bnqk", q_BNSD, k_BNSD)) + bias_NSS
    if mask_BSS is not None:
        logits = logits + mask_BSS[:, None]
    return einsum("bnqk,bnkd->bnqd", logits.softmax(-1).to(v_BNSD.dtype), v_BNSD)


def cpu_attention(
    qkv: Float[Tensor, "B S 3 N D"], position: PositionBias, mask_BSS: Float[Tensor, "B S S"] | None
) -> Float[Tensor, "B S N D"]:
    """`plain_attention` by the kernel of whole heads where it is supported, else block by block."""
    attend = head_attention if kernel_supported(qkv, position, mask_BSS) else block_attention
    return attend(qkv, position, mask_BSS)


class Attention(nn.Module):
    """Multi-head attention of a layer; `einsum` computes the products and may be an engine's."""

    def __init__(self, config: ModelConfig, einsum: Einsum = torch.einsum) -> None:
        super().__init__()
        self._einsum = einsum
        M, self.num_heads, self.head_size = config.d_model, config.num_heads, config.head_size
        A = self.num_heads * self.head_size
        self.w_query_MA = nn.Parameter(torch.empty(M, A))
        self.w_key_MA = nn.Parameter(torch.empty(M, A))
        self.w_value_MA = nn.Parameter(torch.empty(M, A))
        self.w_out_AM = nn.Parameter(torch.empty(A, M))
        self.position = PositionBias(
            self.num_heads, config.position_buckets, config.position_max_distance
        )

    def forward(self, x_BSM: Float[Tensor, "B S M"], mask: Mask) -> Float[Tensor, "B S M"]:
        if isinstance(mask, DocumentMask):
            y = self._fused(x_BSM, mask)
        elif x_BSM.device.type == "cpu":
            y = self._on_cpu(x_BSM, mask)
        else:
            y = self._by_operators(x_BSM, mask)
        return linear(y.flatten(2), self.w_out_AM)

    def _heads(self, x_BSM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = (*x_BSM.shape[:2], -1, self.head_size)  # a process may have some of the heads
        q, k, v = (
            (x_BSM @ w.to(x_BSM.dtype)).view(heads).transpose(1, 2)
            for w in (self.w_query_MA, self.w_key_MA, self.w_value_MA)
        )
        return q, k, v

    def _fused(self, x_BSM: Tensor, mask: DocumentMask) -> Float[Tensor, "B S N D"]:
        # Imported late, since it takes a while and a CPU never asks for it.
        from glam.model.attention.flex import flex_bias_attention

        return flex_bias_attention(*self._heads(x_BSM), self.position, mask).transpose(1, 2)

    def _by_operators(self, x_BSM: Tensor, mask_BSS: Tensor | None) -> Float[Tensor, "B S N D"]:
        q, k, v = self._heads(x_BSM)
        bias_NSS = self.position(x_BSM.shape[1])
        q = q * self.head_size**-0.5
        return plain_attention(q, k, v, bias_NSS, mask_BSS, self._einsum).transpose(1, 2)

    def _on_cpu(self, x_BSM: Tensor, mask_BSS: Tensor | None) -> Float[Tensor, "B S N D"]:
        w = torch.cat([self.w_query_MA, self.w_key_MA, self.w_value_MA], 1)
        qkv = linear(x_BSM, w).view(*x_BSM.shape[:2], 3, -1, self.head_size)
        return cpu_attention(qkv, self.position, mask_BSS)
