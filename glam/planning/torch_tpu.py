# torch_tpu is an extra (pip install 'glam[tpu]') and ships few types.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""All that this project knows of torch_tpu that is not public: a graph of torch's operators as
StableHLO, by torch_tpu's own lowering, without a TPU.

torch_tpu registers the device `tpu` where it sees a TPU. Registered by hand without one, tensors
that hold nothing can be lowered; anything that is computed ends the process (SIGABRT), so nothing
here makes a tensor outside the mode in which torch_tpu records.

What torch_tpu cannot say goes through it in a numbered barrier, and is written in its place
afterwards (`glam.planning.stablehlo`).
"""

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import cache
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx

from glam.planning.layer_loop import loop
from glam.planning.stablehlo import FIRST_MARK, Mark, Product, Split
from glam.planning.step_graph import StepGraph


@cache
def _library() -> Any:
    """torch_tpu's lowering, with the device registered."""
    with warnings.catch_warnings(), redirect_stderr(StringIO()):  # it tells each step of its start
        warnings.simplefilter("ignore")  # that tcmalloc is absent, which matters on a TPU
        from torch_tpu import _loader

        _loader._init_device("tpu")
        from torch_tpu._internal import execution_mode
        from torch_tpu._internal.compile import tpu_torch_compile

    return execution_mode, tpu_torch_compile


def lowered(step: StepGraph) -> tuple[str, list[Mark]]:
    """StableHLO of a graph as text, and what the numbered barriers in it stand for."""
    lowering, marks = _library()[1], list[Mark]()
    with _recording():
        arguments = [_placeholder(value.shape, value.dtype) for value in step.inputs.values()]
        found = _Lowering(step.graph, marks).run(*(each.clone() for each in arguments))
        module = lowering.build_mlir(_distinct(found), arguments)
        return lowering.serialize_mlir_text(module), marks


@contextmanager
def _recording() -> Generator[None]:
    """The mode in which torch_tpu computes nothing."""
    mode = _library()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch_tpu's functions may change
        with mode.set_eager_mode(mode.EagerMode._INTERNAL_COMPILE_FX_GRAPH), torch.no_grad():
            yield


def _placeholder(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return _library()[1].placeholder(list(shape), dtype)


def _distinct(values: Sequence[Tensor]) -> list[Tensor]:
    """A result of a program has to be a value of its own."""
    seen, found = set[int](), list[Tensor]()
    for value in values:
        value = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
        found.append(value)
    return found


class _Lowering(fx.Interpreter):
    """Runs a graph on tensors that torch_tpu records."""

    def __init__(self, graph: fx.GraphModule, marks: list[Mark]) -> None:
        super().__init__(graph)
        self.marks = marks

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("tpu")}
        match str(target):
            case "glam.split.default":
                x, axes = args
                return self._marked(Split(tuple(axis or None for axis in axes.split(","))), [x], x)
            case "glam.einsum.default":
                equation, a, b = args
                return self._product(equation, a, b)
            case "glam.barrier.default":
                return torch.ops.tpu._optimization_barrier(list(args[0]))
            case "aten.cumsum.default":
                return _running_sum(args[0].to(kwargs.get("dtype") or args[0].dtype), args[1])
            case name if name.startswith("profiler."):
                return None
            case _ if target is loop:
                return self._loop(*args, **kwargs)
        return super().call_function(target, args, kwargs)

    def fetch_attr(self, target: str) -> Any:
        found = super().fetch_attr(target)
        if not isinstance(found, Tensor):
            return found
        if found.ndim == 0:
            return torch.full((), found.item(), dtype=found.dtype, device="tpu")
        return _library()[1].make_constant_tensor(found)

    def _marked(self, mark: Mark, operands: list[Tensor], like: Tensor) -> Tensor:
        """A tensor like `like`, which a barrier gives that stands for `mark` of the operands."""
        number = FIRST_MARK + len(self.marks)
        self.marks.append(mark)
        marker = torch.full((), number, dtype=torch.int32, device="tpu")
        return torch.ops.tpu._optimization_barrier([like, *operands, marker])[0]

    def _product(self, equation: str, a: Tensor, b: Tensor) -> Tensor:
        """One product of all axes. torch's einsum merges axes first, and what is split along two
        could then not stay split."""
        operands, of_product = equation.split("->")
        sizes = dict(zip(operands.replace(",", ""), [*a.shape, *b.shape], strict=True))
        shape = [sizes[axis] for axis in of_product]
        like = torch.full(shape, 0, dtype=a.dtype, device="tpu")
        return self._marked(Product(equation), [a, b], like)

    def _loop(
        self, body: fx.GraphModule, carry: list[Tensor], xs: list[Tensor], *, reverse: bool
    ) -> Any:
        """torch_tpu's own scan also compiles the body, on a chip."""
        lowering = _library()[1]
        arguments = [_placeholder(value.shape, value.dtype) for value in carry]
        arguments += [_placeholder(value.shape[1:], value.dtype) for value in xs]
        made = _distinct(_Lowering(body, self.marks).run(*(each.clone() for each in arguments)))
        stacked = [
            torch.empty(len(xs[0]), *each.shape, dtype=each.dtype, device="meta")
            for each in made[len(carry) :]
        ]
        direction = lowering.ScanDirection
        return lowering.create_scan_op(
            inits=list(carry),
            inputs=list(xs),
            body_module=lowering.build_mlir(made, arguments),
            scan_direction=direction.kReverse if reverse else direction.kForward,
            dummy_ys=stacked,
            num_scan_inputs=len(xs),
        )


def _running_sum(x: Tensor, dim: int) -> Tensor:
    """By doubling: torch_tpu's own is an operator that jaxlib cannot write for libtpu."""
    shift, size = 1, x.shape[dim]
    while shift < size:
        before = torch.zeros_like(x.narrow(dim, 0, shift))
        x = x + torch.cat([before, x.narrow(dim, 0, size - shift)], dim)
        shift *= 2
    return x
