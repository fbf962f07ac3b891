# torch_tpu and jax are an extra (make tpu) and ship few types.
# pyright: basic, reportMissingImports=false, reportPrivateImportUsage=false
"""The training step as StableHLO by torch_tpu, split as the layout table says."""

from collections.abc import Callable, Mapping
from typing import Any

from glam.config import RunConfig
from glam.planning.libtpu import Asked, versions
from glam.planning.stablehlo import Annotator, lay_out, write_marks
from glam.planning.step_graph import StepGraph, step_graph
from glam.planning.torch_tpu import lowered


def asked(config: RunConfig) -> Asked:
    """The step of a configuration, for the compiler."""
    step = step_graph(config)
    weights = (name.partition("/") for name in step.inputs)
    return Asked(
        program=laid_out(step, config.hardware.mesh),
        weights=[rest if kind == "weight" else None for kind, _, rest in weights],
        versions=versions("torch_tpu", "torch"),
    )


def laid_out(step: StepGraph, mesh: Mapping[str, int], edited: Callable[[str], str] = str) -> Any:
    """The module of a step for a mesh `{axis: size}`."""
    from jax._src.interpreters import mlir
    from jax._src.lib.mlir import ir

    text, marks = lowered(step)
    names, annotator = list(step.inputs), Annotator(mesh)
    with mlir.make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(edited(text))
        write_marks(module, marks, annotator)
        lay_out(
            module,
            annotator,
            [step.axes.get(name) for name in names],
            [step.axes.get(name) for name in step.outputs],
            {names.index(name): place for place, name in enumerate(step.outputs)},
        )
    return module
