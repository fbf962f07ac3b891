"""Decoding with kept keys and values, by torch's operators: for any device and type."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glam.model.decoding.decoder import Decoder
from glam.model.glam import Glam, Layer
from glam.model.loss import output_logits
from glam.model.moe.grouped import grouped
from glam.model.moe.moe import MixtureOfExperts
from glam.model.precision import at_least_float32

AT_ONCE = 256  # columns of prompts that go through the model together: bounds the memory
FIRST_LENGTH = 128  # columns of a new cache; doubled when they are full


class CachedDecoder(Decoder):
    """See Decoder. Rows end in the same column: shorter prompts are padded in front, and no row
    sees its padding. On a CPU activations are float32, or the type of the weights if that is wider.
    """

    def __init__(self, model: Glam) -> None:
        weight = model.embedding.w_VM
        self.model, self.device = model, weight.device
        wide = torch.promote_types(weight.dtype, torch.float32)
        self.dtype = wide if weight.is_cpu else model.dtype
        self.seen = 0  # columns that are filled
        self.first_B = torch.zeros(0, dtype=torch.int64)  # first column of each row
        self.keys = self.values = weight.new_zeros(0)  # [L, B, N, columns, D]

    def start(self, prompts: Sequence[Sequence[int]], room: int = 0) -> Float[Tensor, "B V"]:
        longest = max(len(prompt) for prompt in prompts)
        padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        first = [longest - len(prompt) for prompt in prompts]
        self.first_B = torch.tensor(first, device=self.device)
        self.seen = 0
        self._make_room(len(prompts), longest + room)
        tokens = torch.tensor(padded, device=self.device)
        starts = range(0, longest, AT_ONCE)
        return [self._forward(tokens[:, at : at + AT_ONCE]) for at in starts][-1]

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        self._make_room(len(tokens), self.seen + 1)
        return self._forward(torch.tensor(tokens, device=self.device)[:, None])

    def keep(self, rows: Sequence[int]) -> None:
        index = torch.tensor(list(rows), device=self.device)
        self.first_B = self.first_B[index]
        self.keys, self.values = self.keys[:, index], self.values[:, index]

    def _make_room(self, rows: int, columns: int) -> None:
        if self.seen and columns <= self.keys.shape[3]:
            return
        config, length = self.model.config, FIRST_LENGTH
        while length < columns:
            length *= 2
        shape = (config.num_layers, rows, config.num_heads, length, config.head_size)
        for name in ("keys", "values"):
            new = torch.zeros(shape, dtype=self.dtype, device=self.device)
            if self.seen:
                new[..., : self.seen, :] = getattr(self, name)[..., : self.seen, :]
            setattr(self, name, new)

    def _forward(self, tokens: Int[Tensor, "B S"]) -> Float[Tensor, "B V"]:
        """Logits after the last of these tokens, which fill the next columns."""
        model = self.model
        x = model.embedding(tokens).to(self.dtype)
        mask_BSC = self._mask(tokens.shape[1])
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            x = x + self._attend(layer, index, layer.attention_norm(x), mask_BSC)
            x = x + feed_forward(layer, layer.ffn_norm(x))
        self.seen += tokens.shape[1]
        last_BM = model.norm(x[:, -1:])[:, 0]
        return output_logits(last_BM, model.embedding.w_VM, model.config.logit_cap).cpu()

    def _mask(self, new: int) -> Float[Tensor, "B S C"]:
        """To add to the logits of the `new` columns: the lowest number where a column is another
        row's padding or ahead. Not -inf, since padding itself sees nothing else."""
        columns = torch.arange(self.seen + new, device=self.device)
        ahead = columns > columns[self.seen :, None]
        hidden = ahead | (columns < self.first_B[:, None, None])
        dtype = torch.promote_types(self.dtype, torch.float32)
        low = torch.finfo(dtype).min
        return torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill(hidden, low)

    def _attend(
        self, layer: Layer, index: int, x: Float[Tensor, "B S M"], mask_BSC: Tensor
    ) -> Float[Tensor, "B S M"]:
        attention = layer.attention
        (B, S, _), end = x.shape, self.seen + x.shape[1]
        q, k, v = (
            (x @ w.to(x.dtype)).view(B, S, attention.num_heads, -1).transpose(1, 2)
            for w in (attention.w_query_MA, attention.w_key_MA, attention.w_value_MA)
        )
        keys, values = self._keep(index, k, v)
        logits = at_least_float32((q * attention.head_size**-0.5) @ keys.mT)
        columns = torch.arange(end, device=self.device)
        distance_SC = (columns[self.seen :, None] - columns).clamp(min=0)
        bias_NSC = attention.position.by_distance(end)[:, distance_SC]
        logits = logits + bias_NSC + mask_BSC[:, None]
        y = logits.softmax(-1).to(x.dtype) @ values
        return y.transpose(1, 2).flatten(2) @ attention.w_out_AM.to(x.dtype)

    def _keep(self, index: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, [B, N, columns, D], with those of the new columns [B, N, S,
        D]."""
        end = self.seen + k.shape[2]
        keys, values = self.keys[index, :, :, :end], self.values[index, :, :, :end]
        keys[:, :, self.seen :], values[:, :, self.seen :] = k, v
        return keys, values


def feed_forward(layer: Layer, x: Float[Tensor, "B S M"]) -> Float[Tensor, "B S M"]:
    """The layer's feed-forward. Experts drop no token, whatever dispatcher trained them: the
    capacity that a text would leave a token depends on tokens that are not there yet."""
    ffn = layer.ffn
    if not isinstance(ffn, MixtureOfExperts):
        return ffn(x)
    router = ffn.router
    logits_TE = torch.addmm(router.bias_E, at_least_float32(x.flatten(0, 1)), router.w_ME)
    return grouped(x, router.route(logits_TE), ffn.experts).y
