"""Decoding with kept keys and values by one CPU kernel for the whole model: a step has no
operators between which an interpreter would run."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from glam import kernels
from glam.model import Glam
from glam.model.feed_forward import GatedFeedForward
from glam.model.glam import Layer
from glam.model.moe.moe import MixtureOfExperts

ROWS_AT_ONCE = 32  # rows of a call: those of a prompt are its positions
FIRST_LENGTH = 128  # positions of a new cache; doubled when they are full
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}  # as in decode.h


def kernel_serves(model: Glam) -> bool:
    """Whether the kernel takes this model: on a CPU, in float32 or bfloat16, of which all dense
    matrices have one, and all experts one."""
    weights = list(model.parameters())
    whole = all(weight.is_contiguous() for weight in weights)
    types = [
        {w.dtype for w in weights if (w.ndim == 3) is is_expert} for is_expert in (True, False)
    ]
    return whole and kernels.supported(*weights) and all(len(each) <= 1 for each in types)


class KernelDecoder:
    """See Decoder. Activations are float32 whatever the type of the weights."""

    def __init__(self, model: Glam) -> None:
        self.model, self.config = model, model.config
        self.lengths = list[int]()  # of each row's text
        self.places = list[int]()  # of each row in the cache
        self.wide = list[Tensor]()  # float32 copies of small weights, which the kernel points to
        self.weights = torch.tensor(self._addresses())
        self.experts = torch.tensor(self._addresses_of_experts())
        self.threads = torch.get_num_threads()
        self._new_cache(0, 0)

    def start(self, prompts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        self.lengths, self.places = [0] * len(prompts), list(range(len(prompts)))
        self._make_room(len(prompts), max(len(prompt) for prompt in prompts))
        rows = [
            (token, text, position, position == len(prompt) - 1)
            for text, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        self.lengths = [len(prompt) for prompt in prompts]
        return self._run(rows)

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        self._make_room(len(self.keys[0]), max(self.lengths) + 1)
        rows = list(zip(tokens, self.places, self.lengths, [True] * len(tokens), strict=True))
        self.lengths = [length + 1 for length in self.lengths]
        return self._run(rows)

    def keep(self, rows: Sequence[int]) -> None:
        lengths, places = [self.lengths[row] for row in rows], [self.places[row] for row in rows]
        self._make_room(len(rows), max(self.lengths))
        free = iter(sorted(set(range(self.keys.shape[1])) - set(places)))
        taken = set[int]()
        for row, place in enumerate(places):
            if place in taken:  # a text that is there twice is copied to a place of its own
                places[row] = next(free)
                for cache in (self.keys, self.values):
                    cache[:, places[row]] = cache[:, place]
            taken.add(places[row])
        self.lengths, self.places = lengths, places

    def _run(self, rows: list[tuple[int, int, int, bool]]) -> Float[Tensor, "B V"]:
        """The rows (token, place in the cache, position, whether its logits are wanted), some at a
        time."""
        wanted = sum(row[3] for row in rows)
        logits, done = torch.empty(wanted, self.config.vocab_size), 0
        for start in range(0, len(rows), ROWS_AT_ONCE):
            columns = torch.tensor(rows[start : start + ROWS_AT_ONCE]).t().contiguous()
            self._call(columns, logits[done:], 0, 2 * self.config.num_layers + 1)
            done += int(columns[3].sum())
        return logits

    def _call(self, columns: Tensor, logits: Tensor, first: int, last: int) -> None:
        tokens, places, positions, wanted = columns.unbind(0)
        inputs = (places, positions, wanted, self.sizes, self.weights, self.experts)
        state = (self.keys, self.values, self.bias, self.scratch, self.chosen, self.gates)
        numbers = (len(tokens), first, last, self.config.logit_cap or 0.0, -1.0)
        kernels.call("decode", tokens, *inputs, *state, logits, *numbers)

    def _make_room(self, rows: int, length: int) -> None:
        """A cache of at least so many rows and positions, with what it holds now."""
        had_rows, had_length = self.keys.shape[1], self.keys.shape[-1]
        if rows <= had_rows and length <= had_length:
            return
        new_length = max(had_length, FIRST_LENGTH)
        while new_length < length:
            new_length *= 2
        keys, values = self.keys, self.values
        self._new_cache(max(rows, had_rows), new_length)
        if used := max(self.lengths, default=0):
            self.keys[:, :had_rows, ..., :used] = keys[..., :used]
            self.values[:, :had_rows, :, :used] = values[..., :used, :]

    def _new_cache(self, rows: int, length: int) -> None:
        config = self.config
        L, N, D = config.num_layers, config.num_heads, config.head_size
        self.keys = torch.zeros(L, rows, N, D, length)
        self.values = torch.zeros(L, rows, N, length, D)
        by_distance = [layer.attention.position.by_distance(length) for layer in self._layers()]
        self.bias = torch.stack(by_distance).float().flip(-1).contiguous()
        hidden = max(config.d_ff * config.top_k, config.d_model)
        floats = 3 * config.d_model + 4 * N * D + 2 * hidden + 2 * config.num_experts
        self.scratch = torch.zeros(ROWS_AT_ONCE * floats + self.threads * length)
        self.chosen = torch.zeros(ROWS_AT_ONCE, config.top_k, dtype=torch.int64)
        self.gates = torch.zeros(ROWS_AT_ONCE, config.top_k)
        self.sizes = torch.tensor(self._sizes(rows, length))

    def _sizes(self, rows: int, length: int) -> list[int]:
        config = self.config
        dense = TYPES[self.model.embedding.w_VM.dtype]
        experts = [w.dtype for w in self.model.parameters() if w.ndim == 3]
        return [
            *(config.num_layers, config.d_model, config.num_heads, config.head_size),
            *(config.num_experts, config.top_k, config.d_ff, config.vocab_size),
            *(
                rows,
                length,
                config.router.normalize,
                dense,
                TYPES[experts[0]] if experts else dense,
            ),
        ]

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.model.layers if isinstance(layer, Layer)]

    def _addresses(self) -> list[int]:
        found = list[int]()
        for layer in self._layers():
            attention = layer.attention
            found.append(self._float(layer.attention_norm.scale_M))
            matrices = (attention.w_query_MA, attention.w_key_MA, attention.w_value_MA)
            found += [w.data_ptr() for w in (*matrices, attention.w_out_AM)]
            found.append(self._float(layer.ffn_norm.scale_M))
            found += self._of_feed_forward(layer)
        return [*found, self.model.embedding.w_VM.data_ptr(), self._float(self.model.norm.scale_M)]

    def _of_feed_forward(self, layer: Layer) -> list[int]:
        ffn = layer.ffn
        if isinstance(ffn, MixtureOfExperts):
            return [self._float(ffn.router.w_ME), self._float(ffn.router.bias_E), 0, 0, 0, 0]
        gate = ffn.w_gate_MH.data_ptr() if isinstance(ffn, GatedFeedForward) else 0
        w_in, w_out = ffn.w_in_MH, ffn.w_out_HM
        return [0, 0, gate, w_in.data_ptr(), w_out.data_ptr(), w_in.shape[1]]

    def _addresses_of_experts(self) -> list[list[list[int]]]:
        """[L, E, 4]; zeros for a layer without experts."""
        found = list[list[list[int]]]()
        for layer in self._layers():
            ffn = layer.ffn
            if isinstance(ffn, MixtureOfExperts):
                pairs = zip(ffn.experts.w_in_EMH, ffn.experts.w_out_EHM, strict=True)
                found.append([[w_in.data_ptr(), w_out.data_ptr(), 0, 0] for w_in, w_out in pairs])
            else:
                found.append([[0] * 4] * self.config.num_experts)
        return found

    def _float(self, weight: Tensor) -> int:
        """Address of a small weight in float32."""
        self.wide.append(weight.detach().float().contiguous())
        return self.wide[-1].data_ptr()
