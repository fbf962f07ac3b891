"""One MoE layer under three loads, beside torch's own `grouped_mm` and other libraries' layers.

balanced:  every expert is chosen by as many tokens, in a random order;
skewed:    80 % of the tokens choose one expert first;
one token: as when text is written, without gradients.

Which experts a token chooses is planted in it, so that all libraries route alike: the router's
weights are a direction an expert, and a token lies along the directions of its two. The baseline is
the layer written with torch's operators: sort, two `grouped_mm` around a GELU, combine. Peers with
SwiGLU have three matrices two thirds as wide, rounded down in the peer's favour.
"""

from collections.abc import Callable, Iterator
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.layer import TYPES, mixture
from experiments.benchmarks.peers import moe_blocks, titan_block
from experiments.benchmarks.timing import Work, interleaved

TOP_K = 2
# Tokens, width, experts; hidden units are four times the width.
SHAPES = [(1024, 64, 16), (4096, 256, 16), (4096, 512, 8), (2048, 256, 64)]
INPUTS = 8
SKEW = 0.8  # of the tokens
PLANTED = 4.0  # logit of the first choice, in units of the noise's
BASELINE = "torch grouped_mm"
ROUTERS = {"router", "gate", "w_router"}  # of a part's name
Row = dict[str, object]
Choose = Callable[[int, int], Tensor]  # (tokens, experts) -> [T, 2]


def measure(rounds: int = 5) -> Iterator[Row]:
    for T, M, E in SHAPES:
        for name, dtype in TYPES.items():
            for load, choose in LOADS.items():
                tokens = 1 if load == "one token" else T
                if load == "one token" and T == 4096 and M == 256:
                    continue  # the same layer as of other tokens, but for E
                works = _works(tokens, M, E, dtype, choose, trains=tokens > 1)
                label = f"layer {load} T {tokens} M {M} E {E} {name}"
                for row in interleaved(works, BASELINE, rounds=rounds, turn=0.1, label=label):
                    shape = f"T {tokens} M {M} E {E}"
                    yield {"work": f"layer, {load}", "shape": shape, "dtype": name, **row}


def balanced(T: int, E: int) -> Tensor:
    first = torch.arange(T)[torch.randperm(T)] % E
    return torch.stack([first, (first + 1 + torch.randint(0, E - 1, (T,))) % E], 1)


def skewed(T: int, E: int) -> Tensor:
    chosen = balanced(T, E)
    others = torch.randint(1, E, (T,))
    first = torch.rand(T) < SKEW
    chosen[first] = torch.stack([torch.zeros_like(others), others], 1)[first]
    return chosen


LOADS: dict[str, Choose] = {"balanced": balanced, "80 % on one": skewed, "one token": balanced}


def _works(
    T: int, M: int, E: int, dtype: torch.dtype, choose: Choose, *, trains: bool
) -> dict[str, Work]:
    torch.manual_seed(0)
    directions_EM = torch.linalg.qr(torch.randn(M, M))[0][:E]
    inputs = [_planted(choose(T, E), directions_EM, T, M).to(dtype) for _ in range(INPUTS)]
    layers: dict[str, nn.Module] = {
        BASELINE: GroupedMM(M, 4 * M, E).to(dtype),
        "glam": mixture(M, 4 * M, E, dtype),
    }
    layers |= {name: block.to(dtype) for name, block in moe_blocks(M, 4 * M, E, TOP_K).items()}
    if dtype == torch.bfloat16:
        layers |= {n: b.to(dtype) for n, b in titan_block(M, 4 * M, E, TOP_K).items()}
    for layer in layers.values():
        _steer(layer, directions_EM)
    make = _trained if trains else _written
    return {name: make(layer, inputs) for name, layer in layers.items()}


def _planted(chosen_TK: Tensor, directions_EM: Tensor, T: int, M: int) -> Tensor:
    """`[1, T, M]`"""
    first, second = directions_EM[chosen_TK].unbind(1)
    x = torch.randn(T, M)
    x -= (x @ directions_EM.T) @ directions_EM  # nothing of its own along the directions
    return (x + PLANTED * (first + 0.8 * second))[None]


@torch.no_grad()
def _steer(layer: nn.Module, directions_EM: Tensor) -> None:
    """By whatever name the router's weights go: they are shaped as the directions, or turned."""
    (weight,) = (
        weight
        for name, weight in layer.named_parameters()
        if weight.shape in (directions_EM.shape, directions_EM.T.shape)
        and ROUTERS.intersection(name.split("."))
    )
    turned = directions_EM if weight.shape == directions_EM.shape else directions_EM.T
    weight.copy_(turned)


def _trained(layer: nn.Module, inputs: list[Tensor]) -> Work:
    """Forward and backward; gradients are given back, as `zero_grad` does."""
    turns = cycle([x.clone().requires_grad_() for x in inputs])
    upstream = torch.randn_like(inputs[0])

    def work() -> None:
        x = next(turns)
        _output(layer, x).backward(upstream)
        x.grad = None
        layer.zero_grad(set_to_none=True)

    return work


def _written(layer: nn.Module, inputs: list[Tensor]) -> Work:
    layer.eval()
    turns = cycle(inputs)

    @torch.no_grad()
    def work() -> None:
        _output(layer, next(turns))

    return work


def _output(layer: nn.Module, x: Tensor) -> Tensor:
    made = layer(x)
    return made if isinstance(made, Tensor) else made[0]


class GroupedMM(nn.Module):
    """What one writes with torch 2.11 and later: `grouped_mm` over tokens sorted by expert."""

    def __init__(self, d_model: int, hidden: int, num_experts: int) -> None:
        super().__init__()
        self.w_router = nn.Parameter(torch.empty(d_model, num_experts))
        self.w_in_EMH = nn.Parameter(torch.randn(num_experts, d_model, hidden) * d_model**-0.5)
        self.w_out_EHM = nn.Parameter(torch.randn(num_experts, hidden, d_model) * hidden**-0.5)

    def forward(self, x_BSM: Tensor) -> Tensor:
        x_TM = x_BSM.flatten(0, 1)
        gates_TE = (x_TM.float() @ self.w_router.float()).softmax(-1)
        gates_TK, experts_TK = gates_TE.topk(TOP_K, -1)
        gates_TK = (gates_TK / gates_TK.sum(-1, keepdim=True)).to(x_TM.dtype)
        order = experts_TK.flatten().argsort(stable=True)
        counts = experts_TK.flatten().bincount(minlength=len(self.w_in_EMH))
        ends = counts.cumsum(0).to(torch.int32)
        rows = x_TM[order // TOP_K]
        hidden = functional.gelu(functional.grouped_mm(rows, self.w_in_EMH, offs=ends))
        y = functional.grouped_mm(hidden, self.w_out_EHM, offs=ends)
        y = y * gates_TK.flatten()[order, None]
        return torch.zeros_like(x_TM).index_add(0, order // TOP_K, y).view_as(x_BSM)
