# torch_tpu and jax are an extra (make tpu) and ship few types.
# pyright: basic, reportMissingImports=false
"""The training step as StableHLO by torch_tpu, split as the layout table says."""

from glam.config import RunConfig
from glam.planning.libtpu import Asked, versions
from glam.planning.stablehlo import Annotator, lay_out, write_marks
from glam.planning.step_graph import step_graph
from glam.planning.torch_tpu import lowered


def asked(config: RunConfig) -> Asked:
    """The step of a configuration, for the compiler."""
    from jax._src.interpreters import mlir
    from jax._src.lib.mlir import ir

    step = step_graph(config)
    text, marks = lowered(step)
    names = list(step.inputs)
    annotator = Annotator(config.hardware.mesh)
    with mlir.make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        write_marks(module, marks, annotator)
        lay_out(
            module,
            annotator,
            [step.axes.get(name) for name in names],
            [step.axes.get(name) for name in step.outputs],
            {names.index(name): place for place, name in enumerate(step.outputs)},
        )
    weights = (name.partition("/") for name in names)
    return Asked(
        program=module,
        weights=[rest if kind == "weight" else None for kind, _, rest in weights],
        versions=versions("torch_tpu", "torch"),
    )
