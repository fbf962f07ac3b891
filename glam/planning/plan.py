"""The plan of a run: parameters, FLOPs, bytes, hours and energy, from configuration and hardware.

Keys are those of `summary.json` where the two overlap. Nothing is allocated; a described slice's
plan does not depend on this machine.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from glam.config import PlanTaskConfig, RunConfig
from glam.config.layout import check_divides, parameters, partition
from glam.errors import UserError
from glam.machine.energy import WATTS_PER_CORE, WATTS_PER_DEVICE
from glam.machine.resources import Precision, Resources, num_cores, resolve
from glam.planning.changes import changed
from glam.planning.memory import FLOAT32, SIZE, memory
from glam.planning.paper import published
from glam.planning.sharded import activations, communication
from glam.planning.throughput import BACKWARD, Throughput, local_throughput
from glam.units import JOULES_PER_MWH, byte_size


class Target(NamedTuple):
    """The hardware of a plan."""

    precision: Precision
    devices: int
    memory_bytes: int  # of one device
    throughput: Throughput
    watts: float | None  # of all devices; None: nobody has said
    watts_source: str


def plan(
    config: RunConfig, *, beside_others: bool = False, throughput: Throughput | None = None
) -> dict[str, Any]:
    """Everything `task=plan` tells. `throughput`: as just timed; else as kept or modelled. Raises
    UserError for a mesh that does not divide the model; `beside_others`, such a model has no bytes,
    and says why."""
    target, hardware, model = find_target(config, throughput), config.hardware, config.model
    problem = _problem(config)
    if problem is not None and not beside_others:
        raise problem
    lies = problem is None and (bool(hardware.mesh) or target.devices == 1)
    paper = published(model)
    return {
        "model": model.name,
        "cell": config.study.cell,
        "hardware": hardware.name,
        "devices": target.devices,
        "precision": target.precision,
        "dispatcher": config.dispatcher if model.is_sparse else None,
        "learning_rate": config.optimizer_as_built.rate,
        "parameters": {
            "total": model.num_params,
            "active": model.num_active_params,
            "embedding": model.num_embedding_params,
        },
        "paper": paper and {"name": paper.label, "total": paper.total, "active": paper.active},
        "flops_per_token": {
            "forward": config.flops_per_token,
            "active": 2 * model.num_active_params,
            "training": BACKWARD * config.flops_per_token,
            **model.flops_by_part(config.training.sequence_length)._asdict(),
        },
        "bytes_per_device": bytes_per_device(config, target) if lies else None,
        "communication_bytes_per_step": _communication(config, target) if lies else None,
        "layout": layout(config) if lies else [],
        "layout_problem": problem and str(problem),
        "compiled": None,  # by the TPU's compiler, where it is asked
        "preparation": None,  # of the text, where it is not in packages
        **_time_and_energy(config, target),
    }


def _time_and_energy(config: RunConfig, target: Target) -> dict[str, Any]:
    """Tokens, FLOPs, hours, MWh and tonnes of CO2 of the whole training."""
    hardware, tokens, throughput = config.hardware, config.training.tokens, target.throughput
    seconds = tokens / throughput.tokens_per_second
    joules = None if target.watts is None else target.watts * seconds * hardware.pue
    megawatt_hours = None if joules is None else joules / JOULES_PER_MWH
    return {
        "tokens": tokens,
        "tokens_per_step": config.training.tokens_per_step,
        "tokens_per_second": throughput.tokens_per_second,
        "throughput_kind": throughput.kind,
        "throughput_source": throughput.source,
        "hours": seconds / 3600,
        "training_flops": float(BACKWARD * config.flops_per_token * tokens),
        "megawatt_hours": megawatt_hours,
        "co2_tonnes": None if megawatt_hours is None else megawatt_hours * hardware.grid_kg_per_kwh,
        "watts": target.watts,
        "watts_source": target.watts_source,
        "pue": hardware.pue,
        "grid_kg_per_kwh": hardware.grid_kg_per_kwh,
        "grid_source": hardware.grid_source,
    }


def runs_at_once(configs: Sequence[RunConfig]) -> int:
    """As many as the cores of this machine carry, `hardware.max_jobs` at most. A described slice
    trains one run at a time."""
    hardware = configs[0].hardware
    if any(config.hardware.is_described for config in configs):
        return 1
    carried = num_cores() // max(resolve(config).threads for config in configs)
    most = carried if hardware.max_jobs is None else min(carried, hardware.max_jobs)
    return max(1, min(most, len(configs)))


def _problem(config: RunConfig) -> UserError | None:
    try:
        check_divides(config)
    except UserError as error:
        return error
    return None


def find_target(config: RunConfig, throughput: Throughput | None = None) -> Target:
    """The described slice, or this machine with `throughput` where it was just timed."""
    hardware = config.hardware
    if not hardware.is_described:
        resources = resolve(config)
        watts, source = _local_watts(config, resources)
        throughput = throughput or local_throughput(config, resources)
        memory_bytes = resources.memory_bytes
        return Target(resources.precision, 1, memory_bytes, throughput, watts, source)
    assert hardware.peak_tflops is not None  # as the configuration checks
    assert hardware.share_of_peak is not None
    assert hardware.memory_gb is not None
    flops = hardware.devices * hardware.peak_tflops * 1e12 * hardware.share_of_peak
    share = f"{hardware.share_of_peak:.1%} of {hardware.peak_tflops:g} TFLOP/s a device"
    return Target(
        precision="float32" if hardware.precision == "float32" else "bfloat16",
        devices=hardware.devices,
        memory_bytes=int(hardware.memory_gb * 1e9),
        throughput=Throughput(
            flops / (BACKWARD * config.flops_per_token),
            f"{share} ({hardware.share_source})" if hardware.share_source else share,
            "stated",
        ),
        watts=hardware.watts and hardware.watts * hardware.devices,
        watts_source=hardware.watts_source or ("stated" if hardware.watts else "not known"),
    )


def _local_watts(config: RunConfig, resources: Resources) -> tuple[float, str]:
    if (stated := config.hardware.watts) is not None:
        return stated, "hardware.watts"
    if (device := WATTS_PER_DEVICE.get(resources.device)) is not None:
        return device, "stated for a device of its kind at full load"
    return resources.threads * WATTS_PER_CORE, f"{WATTS_PER_CORE:g} W for each busy core"


def bytes_per_device(config: RunConfig, target: Target) -> dict[str, Any]:
    """Bytes of one device by part as configured, and totals with and without
    rematerialization."""
    imbalance = _imbalance(config)
    estimate = memory(config, target.precision, imbalance)
    both = {
        again: memory(_again(config, again), target.precision, imbalance) for again in (True, False)
    }
    dispatch = activations(config, SIZE[target.precision], imbalance).dispatch
    return {
        **estimate._asdict(),
        "dispatch": int(dispatch),  # of the activations
        "total": estimate.total,
        "activations_kept": both[False].activations,
        "activations_rematerialized": both[True].activations,
        "total_kept": both[False].total,
        "total_rematerialized": both[True].total,
        "available": target.memory_bytes,
        "fits": estimate.total <= target.memory_bytes,
    }


def _again(config: RunConfig, rematerialize: bool) -> RunConfig:
    return changed(config, {"training.rematerialize": rematerialize})


def _imbalance(config: RunConfig) -> float:
    """Of the load among devices: 1 where one device has all experts."""
    task, split = config.task, config.hardware.shards("experts") > 1
    return task.imbalance if isinstance(task, PlanTaskConfig) and split else 1.0


def _communication(config: RunConfig, target: Target) -> dict[str, int]:
    sent = communication(config, SIZE[target.precision], _imbalance(config))
    return {name: int(value) for name, value in sent._asdict().items()}


def too_large(config: RunConfig, needed: int, available: int) -> str:
    """The refusal of a step that by the compiler's count needs more bytes than a device has, with
    the mildest change that fits by the same count: weights and optimizer state stay, the rest is
    proportional to the batch."""
    hardware, rows = config.hardware, config.training.batch_size
    line = (
        f"model={config.model.name} does not fit hardware={hardware.name} with "
        f"training.batch_size={rows}: a step needs {byte_size(needed)} of a device's "
        f"{byte_size(available)}"
    )
    if not config.training.rematerialize:
        return f"{line}; try training.rematerialize=true"
    held = memory(config)
    stays = held.weights + held.optimizer
    smaller = rows
    while smaller % (2 * hardware.shards("batch")) == 0:
        smaller //= 2
        if stays + (needed - stays) * smaller / rows <= available:
            return f"{line}; by that count training.batch_size={smaller} fits"
    return f"{line}; choose a larger slice or a smaller model"


def layout(config: RunConfig) -> list[dict[str, Any]]:
    """The layout table resolved for this model: one row per weight. Empty without a mesh."""
    if not config.hardware.mesh:
        return []
    return [
        {
            "weight": weight.name,
            "layers": weight.layers,
            "shape": list(weight.shape),
            "axes": list(partition(weight.letters, config.hardware)),
            "bytes": FLOAT32 * weight.layers * math.prod(weight.shape),
        }
        for weight in parameters(config.model)
    ]
