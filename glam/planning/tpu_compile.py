# jaxlib has no types.
# pyright: basic
"""The TPU's own compiler, without a TPU: the training step, traced with tensors that hold nothing
and compiled for a described slice.

libtpu compiles for a topology that it is told. Two libraries make the step's program: torch_tpu, in
the main environment, or torch_xla, in .venv-xla. Nothing is run, so nothing here says how fast a
step is.
"""

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from glam.config import RunConfig
from glam.errors import first_line
from glam.planning.hlo import Collective, Program, Sent
from glam.planning.libtpu import Asked, TooLargeError, compiled_for, describe_only, described
from glam.planning.plan import too_large
from glam.planning.sharded import step_flops

# What makes the step's program, by route: a module with `asked(config) -> Asked`.
ROUTES = {
    "torch_tpu": "glam.planning.torch_tpu_step",
    "torch_xla": "glam.planning.torch_xla_step",
}


def compiled(config: RunConfig, route: str) -> dict[str, Any]:
    """What the compiler says of one device: bytes, FLOPs and collectives of a step. A program that
    does not fit has `fits` False and in `refusal` a line that says what would. Where the program
    cannot be read back, `unread` says why, and there are no collectives.

    In a loop over layers the compiler counts the FLOPs of one turn: `flops_comparable` is False.
    """
    describe_only()
    asked: Asked = import_module(ROUTES[route]).asked(config)
    devices = described(config.hardware)  # after torch_xla has started, which looks for devices too
    began, began_cpu = time.monotonic(), time.process_time()
    by = {"route": route, "versions": asked.versions}
    try:
        program = compiled_for(devices, asked.program)
    except TooLargeError as error:
        return {
            **by,
            "seconds": time.monotonic() - began,
            "cpu_seconds": time.process_time() - began_cpu,
            "fits": False,
            "refusal": too_large(config, error.needed, error.available),
            "total_bytes": error.needed,
        }
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - began_cpu
    held, costs = program.get_compiled_memory_stats(), program.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    return {
        **by,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "fits": True,
        "refusal": None,
        "argument_bytes": held.argument_size_in_bytes,
        "temporary_bytes": held.temp_size_in_bytes,
        "total_bytes": held.argument_size_in_bytes + held.temp_size_in_bytes,
        "flops": costs["flops"],
        "flops_by_hand": step_flops(config),
        "flops_comparable": not config.hardware.scan,
        **_messages(program, asked, config.hardware.mesh),
    }


def _messages(program: Any, asked: Asked, mesh: Mapping[str, int]) -> dict[str, Any]:
    """What is sent, read in the program's text. jaxlib cannot make a text of every program."""
    try:
        text = "\n".join(module.to_string() for module in program.hlo_modules())
    except Exception as error:
        unread = {"collectives": {}, "gathers": {}, "expert_weights_moved": None}
        return {**unread, "unread": first_line(error)}
    sent = Program(text).collectives(mesh)
    return {
        "unread": None,
        "collectives": _added(sent, lambda one: one.kind),
        "gathers": _added(sent, lambda one: _gather(one, asked)),
        "expert_weights_moved": sum(
            each.number for one, each in sent.items() if "experts" in asked.parts(one.arguments)
        ),
    }


def _added(
    sent: Mapping[Collective, Sent], label: Callable[[Collective], str | None]
) -> dict[str, dict[str, int]]:
    """By label, the largest first; without those that have none."""
    found = dict[str, dict[str, int]]()
    for one, each in sorted(sent.items(), key=lambda item: -item[1].bytes):
        if (name := label(one)) is not None:
            row = found.setdefault(name, {"count": 0, "bytes": 0})
            row["count"] += each.number
            row["bytes"] += each.bytes
    return found


def _gather(one: Collective, asked: Asked) -> str | None:
    """What an all-gather is of, and over what."""
    if one.kind != "all-gather":
        return None
    parts = asked.parts(one.arguments)
    what = "activations"
    if parts:
        what = "expert weights" if "experts" in parts else "other weights"
    return f"{what} over {one.over}"
