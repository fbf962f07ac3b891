"""The model over a tree of texts: a segment sees the keys and values that its ancestors left."""
# torch's stubs leave some results untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from glam.evaluation.prefixes import Segment, Tokens, by_level, segments
from glam.model import Glam
from glam.model.attention.attention import cpu_attention
from glam.model.attention.position import PositionBias
from glam.model.decoding.cached_decoder import feed_forward
from glam.model.glam import Layer
from glam.model.loss import output_logits
from glam.model.precision import at_least_float32

MOST_WEIGHTS = 1 << 25  # attention weights of a layer that are held at once
MOST_LOGITS = 1 << 25


@dataclass(frozen=True)
class _State:
    """What a segment leaves: its hidden states, and for its children the keys and values of all
    tokens up to its end, by layer."""

    hidden: Float[Tensor, "S M"]
    past: Float[Tensor, "L 2 N T D"] | None


class _Siblings(NamedTuple):
    """Rows of a batch that follow the same segment, with its keys and values."""

    rows: slice
    past: Float[Tensor, "L 2 N P D"]


Target = tuple[Tokens, Tokens]  # a text, and the tokens that its last positions predict


@torch.no_grad()
def judge(model: Glam, rows: Sequence[Target], batch_tokens: int) -> list[tuple[float, bool]]:
    """Nats of each row's targets, and whether each is the likeliest token."""
    last = segments(sorted({inputs for inputs, _ in rows}))
    states: dict[Segment, _State] = {}
    for level in by_level(last):
        for batch in _batches(level, batch_tokens, model.config.num_heads):
            states |= _forward(model, batch, states)
    hidden = [_last_hidden(last[inputs], len(targets), states) for inputs, targets in rows]
    return _score(model, hidden, [targets for _, targets in rows])


def _batches(level: list[Segment], batch_tokens: int, heads: int) -> Iterator[list[Segment]]:
    """Segments of like length; those that follow the same one side by side."""
    longest: dict[Segment | None, int] = {}
    for one in level:
        longest[one.parent] = max(longest.get(one.parent, 0), len(one.tokens))
    place = {parent: n for n, parent in enumerate(sorted(longest, key=lambda p: -longest[p]))}
    batch: list[Segment] = []
    length = reach = 0
    for one in sorted(level, key=lambda one: (place[one.parent], -len(one.tokens))):
        length, reach = max(length, len(one.tokens)), max(reach, one.end)
        count = len(batch) + 1
        too_many = count * length * reach * heads > MOST_WEIGHTS
        if batch and (count * length > batch_tokens or too_many):
            yield batch
            batch, length, reach = [], len(one.tokens), one.end
        batch.append(one)
    yield batch


def _forward(
    model: Glam, batch: list[Segment], states: dict[Segment, _State]
) -> dict[Segment, _State]:
    device = model.embedding.w_VM.device
    tokens_BS = pad_sequence([torch.tensor(one.tokens) for one in batch], batch_first=True)
    siblings = list(_siblings(batch, states))
    x_BSM = model.embedding(tokens_BS.to(device)).to(model.dtype)
    kept: list[Tensor] = []
    for index, layer in enumerate(model.layers):
        pasts = [one._replace(past=one.past[index]) for one in siblings]
        x_BSM, own_BS2ND = _layer(cast(Layer, layer), x_BSM, pasts)
        kept.append(own_BS2ND)
    x_BSM, own_BL2NSD = model.norm(x_BSM), torch.stack(kept, 1).permute(0, 1, 3, 4, 2, 5)
    return {
        one: _State(x_BSM[n, : len(one.tokens)], _past_of(one, own_BL2NSD[n], states))
        for n, one in enumerate(batch)
    }


def _past_of(
    segment: Segment, own_L2NSD: Tensor, states: dict[Segment, _State]
) -> Float[Tensor, "L 2 N T D"] | None:
    if segment.is_leaf:
        return None
    own = own_L2NSD[..., : len(segment.tokens), :]
    before = None if segment.parent is None else states[segment.parent].past
    return own.contiguous() if before is None else torch.cat([before, own], -2)


def _siblings(batch: list[Segment], states: dict[Segment, _State]) -> Iterator[_Siblings]:
    """None where the segments follow nothing."""
    first = 0
    for parent, group in groupby(batch, attrgetter("parent")):
        last = first + len(list(group))
        if parent is not None and (past := states[parent].past) is not None:
            yield _Siblings(slice(first, last), past)
        first = last


def _layer(
    layer: Layer, x_BSM: Float[Tensor, "B S M"], pasts: list[_Siblings]
) -> tuple[Float[Tensor, "B S M"], Float[Tensor, "B S 2 N D"]]:
    """As `Layer`, with keys and values of what came before; and those of its own."""
    attention = layer.attention
    w = torch.cat([attention.w_query_MA, attention.w_key_MA, attention.w_value_MA], 1)
    qkv = layer.attention_norm(x_BSM) @ w.to(x_BSM.dtype)
    qkv = qkv.unflatten(-1, (3, attention.num_heads, attention.head_size))
    if not pasts and x_BSM.device.type == "cpu":
        y_BSND = cpu_attention(qkv, attention.position, None)
    else:
        y_BSND = _attend(qkv, attention.position, pasts)
    x_BSM = x_BSM + y_BSND.flatten(2) @ attention.w_out_AM.to(x_BSM.dtype)
    return x_BSM + feed_forward(layer, layer.ffn_norm(x_BSM)), qkv[:, :, 1:]


def _attend(
    qkv: Float[Tensor, "B S 3 N D"], position: PositionBias, pasts: list[_Siblings]
) -> Float[Tensor, "B S N D"]:
    """Attention by its definition. Where rows follow a past, each sees all of that."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    q = q * qkv.shape[-1] ** -0.5
    own_BNSS = at_least_float32(q @ k.mT) + position(qkv.shape[1])
    if not pasts:
        return (own_BNSS.softmax(-1).to(v.dtype) @ v).transpose(1, 2)
    y_BNSD, longest = torch.empty_like(q), max(past.shape[2] for _, past in pasts)
    by_distance = position.by_distance(longest + q.shape[2])
    for rows, (past_k, past_v) in pasts:
        # All rows at once against the one past: their queries one after another.
        queries = q[rows].transpose(0, 1).flatten(1, 2)
        to_past = at_least_float32(queries @ past_k.mT).unflatten(1, (-1, q.shape[2]))
        to_past = to_past.transpose(0, 1) + _past_bias(by_distance, q.shape[2], past_k.shape[1])
        weights = torch.cat([to_past, own_BNSS[rows]], -1).softmax(-1).to(v.dtype)
        of_past, of_own = weights.split([past_k.shape[1], q.shape[2]], -1)
        from_past = of_past.transpose(0, 1).flatten(1, 2) @ past_v
        from_past = from_past.unflatten(1, (-1, q.shape[2])).transpose(0, 1)
        y_BNSD[rows] = from_past + of_own @ v[rows]
    return y_BNSD.transpose(1, 2)


def _past_bias(by_distance: Tensor, queries: int, past: int) -> Float[Tensor, "N S P"]:
    """Of `queries` tokens right behind a past, towards each of its tokens."""
    own = torch.arange(queries, device=by_distance.device)[:, None]
    return by_distance[:, past + own - torch.arange(past, device=by_distance.device)]


def _last_hidden(
    segment: Segment, count: int, states: dict[Segment, _State]
) -> Float[Tensor, "T M"]:
    """Of the last `count` tokens up to the segment's end."""
    found: list[Tensor] = []
    node: Segment | None = segment
    while count > 0 and node is not None:
        part = states[node].hidden[-count:]
        found.insert(0, part)
        count -= len(part)
        node = node.parent
    return torch.cat(found) if found else states[segment].hidden[:0]


def _score(model: Glam, hidden: list[Tensor], targets: list[Tokens]) -> list[tuple[float, bool]]:
    device = model.embedding.w_VM.device
    rows = torch.tensor([n for n, row in enumerate(targets) for _ in row], device=device)
    wanted = torch.tensor([token for row in targets for token in row], device=device)
    nats = torch.zeros(len(targets), dtype=torch.float64, device=device)
    misses = torch.zeros(len(targets), dtype=torch.int64, device=device)
    size = max(1, MOST_LOGITS // model.config.vocab_size)
    states = torch.cat(hidden)
    for first in range(0, len(wanted), size):
        here = slice(first, first + size)
        logits = output_logits(states[here], model.embedding.w_VM, model.config.logit_cap)
        each = logits.log_softmax(-1).gather(-1, wanted[here, None])[:, 0]
        nats.index_add_(0, rows[here], each.double())
        misses.index_add_(0, rows[here], (logits.argmax(-1) != wanted[here]).long())
    return list(zip(nats.tolist(), (misses == 0).tolist(), strict=True))
