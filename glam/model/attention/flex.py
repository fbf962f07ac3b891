# FlexAttention has half its types.
# pyright: basic
"""Causal attention with the position bias by torch's FlexAttention, which a compiler fuses into one
kernel on a GPU: no S by S logits are in memory.

The kernel adds the bias; its gradient is made beside it (`BiasGradient`), since FlexAttention would
add every logit's gradient to the table by an atomic addition: to few numbers, in no fixed order.
"""

from functools import cache
from typing import Any, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.attention.flex_attention import (
    AuxRequest,
    create_block_mask,
    flex_attention,
)
from torch.nn.functional import pad

from glam.model.attention.attention import DocumentMask
from glam.model.attention.position import PositionBias
from glam.model.precision import at_least_float32


def document_blocks(segments_BS: Int[Tensor, "B S"]) -> DocumentMask:
    """The mask of packed rows; blocks of 128 by 128 that hold no pair are never computed."""
    # A lambda, here and below: FlexAttention counts the parameters of what it is given.
    sees: Any = lambda b, h, query, key: (  # noqa: E731
        (key <= query) & (segments_BS[b, query] == segments_BS[b, key])
    )
    B, S = segments_BS.shape
    blocks = create_block_mask(sees, B, None, S, S, device=segments_BS.device)
    return DocumentMask(blocks, segments_BS)


class BiasGradient(torch.autograd.Function):
    """`(y, lse, q, k, v, bias [N, W], segments, scale) -> y`: passes y on, and gives the bias its
    gradient. q, k and v have theirs from the attention itself.

    The bias is by distance, relative to that of the last bucket, and so zero from W on: only the
    logits of a band of W keys before each query count. They are computed again, W queries with 2 W
    keys at a time, and summed along their diagonals in a fixed order. With P the weights:
    dS = P (dP - sum(dy * y)), P = exp(S - lse), dP = dy v^T (FlashAttention, arXiv 2205.14135).
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, lse: Tensor, *inputs: Any) -> Tensor:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(y, lse, *tensors)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        y, lse, q, k, v, bias_NW, segments = ctx.saved_tensors
        R = bias_NW.shape[1]
        seen, distance = _band(segments, R)
        logits = _by_block(q, R) @ _windows(k, R).mT
        logits = (
            at_least_float32(logits) * ctx.scale + bias_NW[:, distance.clamp(0, R - 1)][:, None]
        )
        exponent = logits - _by_block(lse[..., None], R)
        weights = exponent.masked_fill(~seen[:, None], -torch.inf).exp()
        d_weights = at_least_float32(_by_block(dy, R) @ _windows(v, R).mT)
        along = (at_least_float32(dy) * at_least_float32(y)).sum(-1, keepdim=True)
        d_logits = weights * (d_weights - _by_block(along, R))
        d_bias = _sum_by_distance(d_logits.sum((0, 2)), R)
        return dy, None, None, None, None, d_bias.to(bias_NW.dtype), None, None


def _by_block(x: Shaped[Tensor, "B N S D"], rows: int) -> Shaped[Tensor, "B N blocks rows D"]:
    """The positions in blocks, the last one filled with zeros."""
    return pad(x, (0, 0, 0, -x.shape[2] % rows)).unflatten(2, (-1, rows))


def _windows(x: Shaped[Tensor, "B N S D"], rows: int) -> Shaped[Tensor, "B N blocks two_rows D"]:
    """Of every block, its positions and those of the block before."""
    blocks = _by_block(x, rows)
    return torch.cat([pad(blocks, (0, 0, 0, 0, 1, 0))[:, :, :-1], blocks], 3)


def _band(segments_BS: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Whether a query sees a key of its window within the band, `[B, blocks, rows, 2 rows]`, and
    their distance, `[rows, 2 rows]`."""
    column = torch.arange(2 * rows, device=segments_BS.device)
    distance = rows + column[:rows, None] - column
    numbers = segments_BS[:, None, :, None] + 1  # 0: before the first position, after the last
    query, key = _by_block(numbers, rows)[:, 0], _windows(numbers, rows)[:, 0]
    near = (distance >= 0) & (distance < rows)
    return near & (query == key.mT) & (query > 0), distance


def _sum_by_distance(x: Float[Tensor, "N rows two_rows"], rows: int) -> Float[Tensor, "N rows"]:
    """Sums along the diagonals of distance 0, 1, … `rows` - 1. Rows of 3 R, read in rows of
    3 R - 1: each moves one to the right of the row above, and diagonals become columns."""
    N, R = len(x), rows
    wide = pad(x.flip(1), (0, R)).flatten(1)[:, : R * (3 * R - 1)]
    return wide.view(N, R, 3 * R - 1).sum(1)[:, R : 2 * R].flip(1)


def flex_bias_attention(
    q: Float[Tensor, "B N S D"],
    k: Float[Tensor, "B N S D"],
    v: Float[Tensor, "B N S D"],
    position: PositionBias,
    mask: DocumentMask,
) -> Float[Tensor, "B N S D"]:
    """`plain_attention` of unscaled queries. On a GPU the kernel is compiled by itself where it is
    not part of a larger program; a CPU computes it by its definition, for the tests."""
    scale, W = q.shape[-1] ** -0.5, min(q.shape[2], position.max_distance)
    near_NW = position.by_distance(W) - position.bias_NR[:, -1:]
    alone = q.is_cuda and not torch.compiler.is_compiling()
    attend = _compiled() if alone else _attend
    y, lse = attend(q, k, v, near_NW.detach(), mask.blocks, scale)
    tensors = (q.detach(), k.detach(), v.detach(), near_NW, mask.segments)
    return cast(Tensor, BiasGradient.apply(y, lse.detach(), *tensors, scale))  # pyright: ignore


def _attend(
    q: Tensor, k: Tensor, v: Tensor, near_NW: Tensor, blocks: Any, scale: float
) -> tuple[Tensor, Tensor]:
    """The output, and the logarithm of every query's sum of exponentials."""
    W = near_NW.shape[1]
    table = pad(near_NW, (0, 1))  # zero from W on
    biased: Any = lambda score, b, h, query, key: (  # noqa: E731
        score + table[h, (query - key).clamp(0, W)]
    )
    form: Any = {"score_mod": biased, "block_mask": blocks, "scale": scale}
    found: Any = flex_attention(q, k, v, **form, return_aux=AuxRequest(lse=True))
    return found[0], found[1].lse


@cache
def _compiled() -> Any:
    return torch.compile(_attend, fullgraph=True, dynamic=False)
