"""Softmax of a block of causal attention: softmax(scale * q k^T + bias + mask). The bias depends on
the distance and is zero from some distance on."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from glam import kernels

aten = torch.ops.aten


class Block(NamedTuple):
    """Queries `start` to `stop`, which attend to keys 0 to `stop`."""

    start: int
    stop: int

    @property
    def queries(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def keys(self) -> slice:
        return slice(0, self.stop)


@runtime_checkable
class BiasedSoftmax(Protocol):
    """The softmax of every block of one attention, and its gradient."""

    def weights(
        self, block: Block, q: Tensor, k: Tensor, mask: Tensor | None
    ) -> Float[Tensor, "BN rows keys"]:
        """The attention weights of a block."""
        ...

    def backward(
        self, block: Block, d_weights: Tensor, weights: Tensor, d_bias: Tensor
    ) -> Float[Tensor, "BN rows keys"]:
        """The gradient of the products of q and k; the gradient of the bias is added to
        `d_bias`."""
        ...

    def new_gradient(self) -> Tensor:
        """Zeros to pass as `d_bias`."""
        ...

    def by_distance(self, d_bias: Tensor) -> Float[Tensor, "N W"]:
        """The gradient of the bias by distance, from the summed `d_bias`."""
        ...


class KernelSoftmax:
    """By a kernel, which overwrites the products with the weights."""

    def __init__(self, bias_NW: Tensor, shape: torch.Size) -> None:
        self.batch, self.length, _, self.heads, head_size = shape
        self.scale, self.window = head_size**-0.5, bias_NW.shape[1]
        self.bias = kernels.pad(bias_NW.flip(1), end=-torch.inf)

    def weights(self, block: Block, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        products = torch.bmm(q, k.mT)
        _, rows, keys = products.shape
        scratch = self.bias.new_empty(torch.get_num_threads(), keys + kernels.PAD)
        sizes = (self.batch, self.heads, rows, keys, self.window, self.length, self.scale)
        mask = None if mask is None else mask.contiguous()
        kernels.call("attention_weights", products, self.bias, mask, scratch, *sizes)
        return products

    def backward(self, block: Block, d_weights: Tensor, weights: Tensor, d_bias: Tensor) -> Tensor:
        sizes = (*weights.shape, self.window, self.scale)
        kernels.call("attention_weights_backward", d_weights, weights, d_bias, *sizes)
        return d_weights

    def new_gradient(self) -> Tensor:
        width = self.window + 2 * kernels.PAD
        return self.bias.new_zeros(self.batch * self.heads, width)

    def by_distance(self, d_bias: Tensor) -> Tensor:
        unpadded = kernels.unpad(d_bias)
        return unpadded.reshape(self.batch, self.heads, -1).sum(0).flip(1)


class TorchSoftmax:
    """By torch's operators, for the other types and machines without kernels."""

    def __init__(self, bias_NW: Tensor, shape: torch.Size, rows: int, dtype: torch.dtype) -> None:
        self.batch, length, _, self.heads, head_size = shape
        self.scale, self.rows, self.near = head_size**-0.5, rows, bias_NW.shape[1]
        # The first query of a block may be `near` away from a key, the last one `rows` more.
        self.window = min(length, self.near + rows)
        wide = functional.pad(bias_NW, (0, self.window - self.near))
        self.bias, self.dtype_of_bias = windows(wide, rows).to(dtype), bias_NW.dtype

    def weights(self, block: Block, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        logits = self._mask_and_bias(block, mask)
        return torch.softmax(logits.baddbmm_(q, k.mT, alpha=self.scale), -1)

    def backward(self, block: Block, d_weights: Tensor, weights: Tensor, d_bias: Tensor) -> Tensor:
        d_logits = aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        _, rows, keys = weights.shape
        biased = min(keys, self.window)
        near = d_logits.view(self.batch, self.heads, rows, keys)[..., keys - biased :]
        d_bias[:, self.rows - rows :, self.window - biased :] += near.sum(0)
        return d_logits.mul_(self.scale)

    def new_gradient(self) -> Tensor:
        return self.bias.new_zeros(self.bias.shape, dtype=self.dtype_of_bias)

    def by_distance(self, d_bias: Tensor) -> Tensor:
        N, R, W = d_bias.shape
        sums = aten.unfold_backward(d_bias.flip(1), [N, W + R - 1], 1, W, 1)
        return sums[:, :W].flip(1)[:, : self.near]

    def _mask_and_bias(self, block: Block, mask: Tensor | None) -> Tensor:
        N, R, W = self.bias.shape
        rows, biased = block.stop - block.start, min(block.stop, self.window)
        far = block.stop - biased
        near = self.bias[:, R - rows :, W - biased :]
        added = self.bias.new_empty(self.batch, N, rows, block.stop)
        if mask is None:
            added[..., :far] = 0
            added[..., far:] = near
        else:
            shared = mask[:, None, block.queries, block.keys]
            added[..., :far] = shared[..., :far]
            torch.add(shared[..., far:], near, out=added[..., far:])
        return added.view(self.batch * N, rows, block.stop)


def windows(bias_NW: Float[Tensor, "N W"], rows: int) -> Float[Tensor, "N rows W"]:
    """The bias of the last `rows` queries of W positions, from the bias by distance `bias_NW`; -inf
    where a key is ahead of the query."""
    ahead = bias_NW.new_full((len(bias_NW), rows - 1), -torch.inf)
    by_offset = torch.cat([bias_NW.flip(1), ahead], 1)
    return by_offset.unfold(1, bias_NW.shape[1], 1).flip(1)


def biased_softmax(
    qkv: Float[Tensor, "B S 3 N D"],
    bias_NW: Float[Tensor, "N W"],
    mask_BSS: Float[Tensor, "B S S"] | None,
    rows: int,
) -> BiasedSoftmax:
    """The softmax for blocks of at most `rows` queries. `bias_NW` is by distance, and zero from W
    on."""
    same = mask_BSS is None or mask_BSS.dtype == qkv.dtype
    if same and kernels.supported(qkv) and kernels.is_float32(bias_NW):
        return KernelSoftmax(bias_NW, qkv.shape)
    return TorchSoftmax(bias_NW, qkv.shape, rows, qkv.dtype)
