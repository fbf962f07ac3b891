"""Decoding with kept keys and values by one CPU kernel for the whole model: a step has no
operators between which an interpreter would run."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from glam import kernels
from glam.model.decoding.decoder import Decoder
from glam.model.decoding.kernel_weights import LANES, KernelWeights, layers_of
from glam.model.decoding.sampling import Sampling, UselessWeightsError
from glam.model.glam import Glam
from glam.model.moe.moe import MixtureOfExperts

ROWS_AT_ONCE = 32  # rows of a call: those of a prompt are its positions
FIRST_LENGTH = 128  # positions of a new cache


class KernelDecoder(Decoder):
    """See Decoder. Activations are float32 whatever the type of the weights; keys and values are
    kept in that of the dense ones."""

    def __init__(self, model: Glam, weights: KernelWeights | None = None) -> None:
        self.config, self.model = model.config, model
        self.weights = weights or KernelWeights(model)
        self.threads = torch.get_num_threads()
        self.lengths = list[int]()  # of each row's text
        self.places = list[int]()  # of each row in the cache
        self._new_cache(0, LANES)

    def start(self, prompts: Sequence[Sequence[int]], room: int = 0) -> Float[Tensor, "B V"]:
        count = len(prompts)
        self.lengths, self.places = [0] * count, list(range(count))
        self._make_room(count, max(len(prompt) for prompt in prompts) + room)
        rows = [
            (token, text, position, position == len(prompt) - 1)
            for text, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        self.lengths, self._step = [len(prompt) for prompt in prompts], None
        return self._run(rows)

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        self._make_room(0, max(self.lengths) + 1)
        if len(tokens) > ROWS_AT_ONCE:
            wanted = [True] * len(tokens)
            logits = self._run(list(zip(tokens, self.places, self.lengths, wanted, strict=True)))
        else:
            self._step = self._step or _Step(self, len(tokens))
            logits = self._step(tokens)
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    @property
    def goes_ahead(self) -> bool:
        """Whether `ahead` can be asked: not of more rows than a call takes, nor where experts have
        to be loaded."""
        return len(self.lengths) <= ROWS_AT_ONCE and not self.weights.loads_at

    def ahead(
        self, tokens: Sequence[int], numbers: list[list[float]], sampling: Sampling
    ) -> list[list[int]]:
        """As many steps as there are rows of `numbers` [steps, B]: the tokens [steps, B] that they
        draw after `tokens`. Raises UselessWeightsError where logits are NaN or Inf."""
        self._make_room(0, max(self.lengths) + len(numbers))
        self._step = self._step or _Step(self, len(tokens))
        written = self._step.ahead(tokens, numbers, sampling)
        if written is None:
            raise UselessWeightsError
        self.lengths = [length + len(numbers) for length in self.lengths]
        return written

    def keep(self, rows: Sequence[int]) -> None:
        lengths, places = [self.lengths[row] for row in rows], [self.places[row] for row in rows]
        self._make_room(len(rows), max(self.lengths))
        free = iter(sorted(set(range(self.keys.shape[1])) - set(places)))
        taken = set[int]()
        for row, place in enumerate(places):
            if place in taken:  # a text that is there twice is copied to a place of its own
                places[row] = next(free)
                self._copy(place, places[row], lengths[row])
            taken.add(places[row])
        self.lengths, self.places, self._step = lengths, places, None

    def _copy(self, place: int, to: int, length: int) -> None:
        blocks = -(-length // LANES)
        for kept in (self.keys, self.values):
            kept[:, to, :, :blocks] = kept[:, place, :, :blocks]

    def _run(self, rows: list[tuple[int, int, int, bool]]) -> Float[Tensor, "B V"]:
        """The rows (token, place in the cache, position, whether its logits are wanted), some at a
        time."""
        logits, done = torch.empty(sum(row[3] for row in rows), self.config.vocab_size), 0
        for start in range(0, len(rows), ROWS_AT_ONCE):
            columns = torch.tensor(rows[start : start + ROWS_AT_ONCE]).t().contiguous()
            self.bound(columns, logits[done:])()
            done += int(columns[3].sum())
        return logits

    def bound(self, columns: Tensor, logits: Tensor) -> Callable[[], object]:
        """A call of the kernel for the rows of `columns` [4, rows] (see `_run`). Where experts have
        to be loaded, it is made in parts."""
        rows, end = columns.shape[1], 2 * self.config.num_layers + 1
        weights = self.weights

        def part(first: int, last: int) -> Callable[[], int]:
            ends = (rows, first, last, *self.numbers())
            return kernels.bind("decode", *columns.unbind(0), *self.tables(), logits, *ends)

        if not weights.loads_at:
            return part(0, end)
        first, parts = 0, list[tuple[Callable[[], int], int, Callable[[], int]]]()
        for layer in weights.loads_at:
            until_chosen = part(first, 2 * layer + 1)
            parts.append((until_chosen, layer, part(2 * layer + 1, 2 * layer + 2)))
            first = 2 * layer + 2
        rest = part(first, end)

        def run() -> None:
            for until_chosen, layer, experts in parts:
                until_chosen()
                used = self.chosen[:rows][self.gates[:rows] > 0]
                for _ in weights.groups(layer, used.unique().tolist()):  # pyright: ignore
                    experts()
            rest()

        return run

    def tables(self) -> tuple[Tensor, ...]:
        """What the kernel takes between the rows and the logits."""
        tables = (self.sizes, self.weights.table, self.weights.experts)
        state = (self.keys, self.values, self.bias, self.scratch, self.chosen, self.gates)
        return *tables, *state

    def numbers(self) -> tuple[float, float]:
        """The cap of the logits, 0 for none, and the threshold."""
        ffns = (layer.ffn for layer in layers_of(self.model))
        mixtures = (ffn for ffn in ffns if isinstance(ffn, MixtureOfExperts))
        threshold = next((each.router.active_threshold for each in mixtures), -1.0)
        return self.config.logit_cap or 0.0, threshold

    def _make_room(self, rows: int, length: int) -> None:
        """A cache of at least so many rows and positions, with what it holds now."""
        had_rows, had_length = self.keys.shape[1], self.keys.shape[3] * LANES
        if rows <= had_rows and length <= had_length:
            return
        longer = length > had_length  # then by twice as much at least, since growing is a copy
        new_length = max(length, 2 * had_length, FIRST_LENGTH) if longer else had_length
        new_length = -(-new_length // LANES) * LANES
        keys, values = self.keys, self.values
        self._new_cache(max(rows, had_rows), new_length)
        self.keys[:, :had_rows, :, : had_length // LANES] = keys
        self.values[:, :had_rows, :, : had_length // LANES] = values

    def _new_cache(self, rows: int, length: int) -> None:
        config = self.config
        L, N, D = config.num_layers, config.num_heads, config.head_size
        width, blocks, dtype = -(-D // LANES) * LANES, length // LANES, self.weights.dtype
        self.keys = torch.zeros(L, rows, N, blocks, -(-D // 2) * 2 * LANES, dtype=dtype)
        self.values = torch.zeros(L, rows, N, blocks, width * LANES, dtype=dtype)
        positions = [layer.attention.position for layer in layers_of(self.model)]
        bias = torch.stack([each.bias_NR for each in positions]).detach().float()
        bias = bias[..., positions[0].buckets(length).flip(0)]
        self.bias = nn.functional.pad(bias, (0, LANES), value=-math.inf).contiguous()
        hidden = max(config.d_ff * config.top_k, config.d_model)
        floats = 3 * config.d_model + 4 * N * D + 2 * hidden + 2 * config.num_experts
        self.scratch = torch.zeros(ROWS_AT_ONCE * floats + self.threads * (length + width))
        self.chosen = torch.zeros(ROWS_AT_ONCE, config.top_k, dtype=torch.int64)
        self.gates = torch.zeros(ROWS_AT_ONCE, config.top_k)
        of_model = (L, config.d_model, N, D, config.num_experts, config.top_k, config.d_ff)
        of_run = (config.vocab_size, rows, length, config.router.normalize, *self.weights.types)
        self.sizes = torch.tensor([*of_model, *of_run])
        self._step: _Step | None = None


class _Step:
    """One more token in every row, prepared once for many steps."""

    def __init__(self, decoder: KernelDecoder, rows: int) -> None:
        self._decoder = decoder
        columns = torch.ones(4, rows, dtype=torch.int64)
        columns[1] = torch.tensor(decoder.places)
        self.columns, self._logits = columns, torch.empty(rows, decoder.config.vocab_size)
        self._tokens, self._positions = columns[0].numpy(), columns[2].numpy()
        self._run = decoder.bound(columns, self._logits)
        self._ahead = dict[tuple[int, Sampling], _Ahead]()

    def __call__(self, tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        self._tokens[:] = tokens
        self._positions[:] = self._decoder.lengths
        self._run()
        return self._logits

    def ahead(
        self, tokens: Sequence[int], numbers: list[list[float]], sampling: Sampling
    ) -> list[list[int]] | None:
        """Several steps by one call, each drawn by the numbers of a row of `numbers`."""
        self._tokens[:] = tokens
        self._positions[:] = self._decoder.lengths
        steps = len(numbers)
        key = steps, sampling
        if key not in self._ahead:
            self._ahead[key] = self._bound_ahead(steps, sampling)
        run, drawn_by, written = self._ahead[key]
        drawn_by[:] = numbers
        return None if run() else written.tolist()

    def _bound_ahead(self, steps: int, sampling: Sampling) -> "_Ahead":
        rows, V = self._logits.shape
        written, drawn_by = torch.zeros(steps, rows, dtype=torch.int64), torch.zeros(steps, rows)
        workspace = torch.empty(V), torch.empty(V, dtype=torch.int64)
        arrays = (*self._decoder.tables(), self._logits, drawn_by, *workspace, written)
        ends = (rows, steps, *self._decoder.numbers(), sampling.temperature, sampling.top_p)
        run = kernels.bind("decode_ahead", *self.columns.unbind(0), *arrays, *ends)
        return _Ahead(run, drawn_by.numpy(), written.numpy())


class _Ahead(NamedTuple):
    """So many steps by one call, with the numbers that draw and the tokens drawn."""

    run: Callable[[], int]
    drawn_by: NDArray[np.float32]  # [steps, rows]
    written: NDArray[np.int64]  # [steps, rows]
