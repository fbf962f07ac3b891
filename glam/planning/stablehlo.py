# jaxlib's bindings of MLIR have no types.
# pyright: basic, reportMissingImports=false, reportPrivateImportUsage=false
"""StableHLO as jaxlib's MLIR has it: how arguments and results lie on a mesh, and what numbered
barriers stand for, written in their places."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Axes = tuple[str | None, ...]

FIRST_MARK = 7_000_000  # a constant that no model has


@dataclass(frozen=True)
class Split:
    """Of a tensor that is to lie split along these axes of the mesh."""

    axes: Axes


@dataclass(frozen=True)
class Product:
    """Of a product of two tensors, as an equation of `torch.einsum`."""

    equation: str


Mark = Split | Product


class Annotator:
    """Writes annotations for GSPMD, XLA's partitioner, of a mesh `{axis: size}`."""

    def __init__(self, mesh: Mapping[str, int]) -> None:
        self.mesh = mesh

    def attribute(self, axes: Axes | None) -> Any:
        """How a tensor lies; None: whole on every device."""
        from jax._src.lib.mlir import ir
        from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

        if axes is None or not any(axes):
            return ir.StringAttr.get("{replicated}")
        mesh = AbstractMesh(tuple(self.mesh.values()), tuple(self.mesh))
        named = NamedSharding(mesh, PartitionSpec(*axes))
        return ir.StringAttr.get(str(named._to_xla_hlo_sharding(len(axes))))

    def constrain(self, value: Any, axes: Axes) -> Any:
        """`value`, annotated."""
        from jax._src.lib.mlir import ir
        from jax._src.lib.mlir.dialects import hlo

        call = hlo.CustomCallOp(
            [value.type], [value], call_target_name=ir.StringAttr.get("Sharding")
        )
        call.attributes["mhlo.sharding"] = self.attribute(axes)
        return call.result


def lay_out(
    module: Any,
    annotator: Annotator,
    arguments: Sequence[Axes | None],
    results: Sequence[Axes | None],
    aliases: Mapping[int, int],
) -> None:
    """Say of every argument and result how it lies, and of arguments which result takes its
    place."""
    from jax._src.lib.mlir import ir

    int32 = ir.IntegerType.get_signless(32)
    of_arguments = [{"mhlo.sharding": annotator.attribute(axes)} for axes in arguments]
    of_results = [{"mhlo.sharding": annotator.attribute(axes)} for axes in results]
    for argument, result in aliases.items():
        of_arguments[argument]["tf.aliasing_output"] = ir.IntegerAttr.get(int32, result)
    main = _main(module)
    for name, attributes in (("arg_attrs", of_arguments), ("res_attrs", of_results)):
        main.attributes[name] = ir.ArrayAttr.get([ir.DictAttr.get(each) for each in attributes])
    whole = module.operation.attributes
    devices = math.prod(annotator.mesh.values())
    whole["mhlo.num_partitions"] = ir.IntegerAttr.get(int32, devices)
    whole["mhlo.num_replicas"] = ir.IntegerAttr.get(int32, 1)


def _main(module: Any) -> Any:
    return next(
        operation
        for operation in module.body.operations
        if operation.operation.name == "func.func" and operation.name.value == "main"
    )


def write_marks(module: Any, marks: Sequence[Mark], annotator: Annotator | None) -> None:
    """Replace every numbered barrier by what its mark says; without an annotator, of one device,
    splits say nothing."""
    written = set[int]()
    for barrier in list(_walk(module.operation, "stablehlo.optimization_barrier")):
        if (number := _number(barrier)) is None:
            continue
        _replace(barrier, marks[number], annotator)
        written.add(number)
    assert len(written) == len(marks), f"{len(marks) - len(written)} marks were lost"


def _walk(operation: Any, name: str) -> Iterator[Any]:
    for region in operation.regions:
        for block in region:
            for inner in block:
                if inner.operation.name == name:
                    yield inner.operation
                yield from _walk(inner.operation, name)


def _number(barrier: Any) -> int | None:
    """Of a numbered barrier, which mark it stands for."""
    from jax._src.lib.mlir import ir

    last = barrier.operands[-1].owner
    if (
        not isinstance(last, ir.Operation | ir.OpView)
        or last.operation.name != "stablehlo.constant"
    ):
        return None
    value: Any = last.operation.attributes["value"]
    if not (value.type.rank == 0 and str(value.type.element_type) == "i32"):
        return None
    number = next(iter(value)) - FIRST_MARK
    return number if number >= 0 else None


def _replace(barrier: Any, mark: Mark, annotator: Annotator | None) -> None:
    from jax._src.lib.mlir import ir

    with ir.InsertionPoint(barrier), barrier.location:
        match mark:
            case Split(axes):
                x = barrier.operands[1]
                made = x if annotator is None else annotator.constrain(x, axes)
            case Product(equation):
                made = _product(equation, *list(barrier.operands)[1:3])
        barrier.results[0].replace_all_uses_with(made)
        for result, operand in zip(
            list(barrier.results)[1:], list(barrier.operands)[1:], strict=True
        ):
            result.replace_all_uses_with(operand)
    barrier.erase()


def _product(equation: str, a: Any, b: Any) -> Any:
    """One product of n dimensions, turned where the equation has another order."""
    from jax._src.lib.mlir import ir
    from jax._src.lib.mlir.dialects import hlo

    operands, of_product = equation.split("->")
    of_a, of_b = operands.split(",")
    both = [axis for axis in of_a if axis in of_b]
    batch, summed = ([x for x in both if (x in of_product) is kept] for kept in (True, False))
    found = [*batch, *(x for x in of_a if x not in both), *(x for x in of_b if x not in both)]
    sizes = dict(zip(of_a + of_b, [*a.type.shape, *b.type.shape], strict=True))
    element = a.type.element_type
    dims = hlo.DotDimensionNumbers.get(
        lhs_batching_dimensions=[of_a.index(x) for x in batch],
        rhs_batching_dimensions=[of_b.index(x) for x in batch],
        lhs_contracting_dimensions=[of_a.index(x) for x in summed],
        rhs_contracting_dimensions=[of_b.index(x) for x in summed],
    )
    type_ = ir.RankedTensorType.get([sizes[x] for x in found], element)
    made = hlo.DotGeneralOp(type_, a, b, dims).result
    if found == list(of_product):
        return made
    order = [found.index(x) for x in of_product]
    return hlo.TransposeOp(made, ir.DenseI64ArrayAttr.get(order)).result
