# torch.distributed has half its types.
# pyright: basic
"""Expert parallelism: rows travel to the experts of other processes and back, and means are over
the tokens of all processes. Every function here is a collective, forward and backward."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor

from glam.model.moe.dispatch import Dispatcher
from glam.model.moe.experts import Experts
from glam.model.moe.grouped import grouped
from glam.model.moe.routing import Dispatched, Routing


class LocalExperts:
    """The experts of this process, with the attributes of `Experts`."""

    def __init__(self, w_in_EMH: Tensor, w_out_EHM: Tensor) -> None:
        self.w_in_EMH, self.w_out_EHM = w_in_EMH, w_out_EHM


class _Exchange(torch.autograd.Function):
    """`(x [rows, M], rows to send to each process, rows to get from each) -> [rows, M]`"""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, send: list[int], receive: list[int], group: ProcessGroup
    ) -> Tensor:
        ctx.counts, ctx.group = (receive, send), group
        return exchanged(x, send, receive, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        send, receive = ctx.counts
        return exchanged(grads[0], send, receive, ctx.group), None, None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return _summed(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _summed(grads[0], ctx.group), None


class _EvenExchange(torch.autograd.Function):
    """As many of the rows `x [rows, …]` to each process as come from it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return _evenly(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _evenly(grads[0], ctx.group), None


def _evenly(x: Tensor, group: ProcessGroup) -> Tensor:
    x = x.detach().contiguous()
    out = torch.empty_like(x)
    dist.all_to_all_single(out, x, group=group)
    return out


def exchanged(x: Tensor, send: list[int], receive: list[int], group: ProcessGroup) -> Tensor:
    """Rows of `x` by all-to-all: `send[i]` of them to process i, `receive[i]` from it."""
    out = x.new_empty(sum(receive), *x.shape[1:])
    dist.all_to_all_single(out, x.contiguous(), receive, send, group)
    return out


def _summed(x: Tensor, group: ProcessGroup) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


def mean_of_all(group: ProcessGroup) -> Callable[[Tensor], Tensor]:
    """A mean over the tokens of all processes `[T, …] -> […]`; each has equally many."""

    def mean(x: Float[Tensor, "T *rest"]) -> Float[Tensor, "*rest"]:
        return cast(Tensor, _Sum.apply(x.mean(0), group)) / group.size()  # pyright: ignore

    return mean


class ExpertParallel:
    """The dropless dispatcher where experts `[E, …]` are split among processes. A token's rows
    travel to the processes of its experts and back by all-to-all, as in GShard (arXiv 2006.16668,
    section 3.2), but without capacity slots: every row travels."""

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group

    def __call__(
        self, x_BSM: Float[Tensor, "B S M"], routing: Routing, experts: Experts
    ) -> Dispatched:
        x_TM, top_k = x_BSM.flatten(0, 1), routing.experts.shape[1]
        order = routing.experts.flatten().argsort(stable=True)
        send, receive, expert_of_row = self._counts(routing, routing.probabilities.shape[1])
        sent = x_TM.index_select(0, order // top_k)
        rows = cast(Tensor, _Exchange.apply(sent, send, receive, self.group))  # pyright: ignore
        served = self._serve(rows, expert_of_row, experts)
        back = cast(Tensor, _Exchange.apply(served, receive, send, self.group))  # pyright: ignore
        row_of_choice = torch.empty_like(order)
        row_of_choice[order] = torch.arange(len(order), device=order.device)
        y_TKM = back.index_select(0, row_of_choice).view(len(x_TM), top_k, -1)
        y_TM = (y_TKM * routing.gates.to(x_TM.dtype)[..., None]).sum(1)
        return Dispatched(y_TM.view_as(x_BSM), dropped=routing.gates.new_zeros(()))

    def _counts(self, routing: Routing, num_experts: int) -> tuple[list[int], list[int], Tensor]:
        """How many rows go to and come from each process, and the local expert of each row that
        comes."""
        size = self.group.size()
        counts_E = torch.bincount(routing.experts.flatten(), minlength=num_experts)
        received_E = torch.empty_like(counts_E)
        dist.all_to_all_single(received_E, counts_E, group=self.group)
        send, receive = (c.view(size, -1).sum(1).tolist() for c in (counts_E, received_E))  # pyright: ignore
        here = torch.arange(num_experts // size, device=counts_E.device).repeat(size)
        return send, receive, here.repeat_interleave(received_E)

    def _serve(self, rows: Tensor, expert_of_row: Tensor, experts: Experts) -> Tensor:
        here = LocalExperts(*(local(w) for w in (experts.w_in_EMH, experts.w_out_EHM)))
        if not len(rows):  # the gradients of the experts are zeros, not absent
            return rows + 0 * (here.w_in_EMH.sum() + here.w_out_EHM.sum()).to(rows.dtype)
        gates = rows.new_ones(len(rows), 1)
        one_choice = Routing(expert_of_row[:, None], gates, probabilities=gates)
        return grouped(rows[None], one_choice, cast(Experts, here)).y[0]


class SeatExchange(NamedTuple):
    """`dispatch`, a dispatcher of static shapes, where experts `[E, …]` are split among processes:
    the slots of every expert travel to its process and back by all-to-all in equal parts. Every
    process brings equally many."""

    dispatch: Dispatcher
    group: ProcessGroup

    def __call__(
        self, x_BSM: Float[Tensor, "B S M"], routing: Routing, experts: Experts
    ) -> Dispatched:
        def serve(x_EXM: Float[Tensor, "E X M"]) -> Float[Tensor, "E X M"]:
            E, X, M = x_EXM.shape
            size = self.group.size()
            rows = self._exchange(x_EXM).view(size, E // size, X, M)  # of my experts, by sender
            served = experts(rows.transpose(0, 1).flatten(1, 2))
            back = served.view(E // size, size, X, M).transpose(0, 1)
            return self._exchange(back.flatten(0, 1))

        return Dispatched(*self.dispatch(x_BSM, routing, cast(Experts, serve)))

    def _exchange(self, x: Tensor) -> Tensor:
        return cast(Tensor, _EvenExchange.apply(x, self.group))  # pyright: ignore


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
