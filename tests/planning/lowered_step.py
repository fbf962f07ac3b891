"""A step that torch_tpu lowered, run by XLA's CPU on virtual devices, beside the same steps by the
module that trains on one device in plain torch. All in float64, so that no rounding differs.

For a process of its own (`ENVIRONMENT`): jax counts its devices once, and torch_tpu registers one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from glam.config import RunConfig
from glam.machine.energy_by_phase import EnergyByPhase
from glam.model import Glam
from glam.planning.libtpu import SOURCES, describe_only
from glam.planning.step_graph import StepGraph, step_graph
from glam.planning.torch_tpu_step import laid_out
from glam.training.module import StepBatch, TrainingModule
from glam.training.train_state import RunningMeans, TrainState
from tests.planning.test_preflight import composed

# Sizes that the mesh divides, and no two alike that one could stand for the other.
SMALL = (
    *("task=plan", "hardware=tpu_v4_8", "hardware.mesh={expert:4,model:2}"),
    *("hardware.precision=float32", "model.num_layers=2", "model.d_model=16", "model.d_ff=24"),
    *("model.num_heads=4", "model.d_head=null", "model.vocab_size=48"),
    *("training.batch_size=8", "training.sequence_length=12", "training.tokens=9600"),
    # Every bucket is met: the gradient of one that is not is rounding, and Adafactor scales it up.
    *("model.position_buckets=4", "model.position_max_distance=8"),
)
STEPS = 3
POISONED = "weight/norm.scale_M"  # in the step that is to be skipped

ENVIRONMENT = {
    # Compiled fast, not to run fast.
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}

Values = dict[str, np.ndarray]


class Differences(NamedTuple):
    """The largest of each kind, after `STEPS` steps."""

    loss: float  # nats; a NaN is equal to a NaN
    skipped: float  # updates left out, in all and the last in a row
    means: float  # of the largest mean
    state: float  # of the largest number of that state
    weights: float  # of the largest change of that weight


@cache
def differences(
    overrides: tuple[str, ...], plant: str | None = None, poisoned: int | None = None
) -> dict[int, Differences]:
    """Of one device and of eight, by their number. `plant` puts a fault into the lowered step:
    `layout` or `constant`. In step `poisoned` a weight is NaN."""
    describe_only()
    torch.set_default_dtype(torch.float64)
    config = composed(*SMALL, *overrides)
    step, batches = step_graph(config), _batches(config)
    before, after, losses = _plain(config, step, batches, poisoned)
    found = dict[int, Differences]()
    for devices in (1, 8):
        mesh = dict.fromkeys(config.hardware.mesh, 1) if devices == 1 else config.hardware.mesh
        run = _compiled(step, mesh, plant)
        made = before
        for number, batch in enumerate(batches):
            given = {**made, **batch, "rate": np.asarray(_rate(config, number))}
            if number == poisoned:
                given[POISONED] = np.full_like(made[POISONED], np.nan)
            kept, made = made[POISONED], {**made, **run(given)}
            if number == poisoned:
                assert np.isnan(made[POISONED]).all()
                made[POISONED] = kept
        found[devices] = _compared(before, made, after, losses)
    return found


def _batches(config: RunConfig) -> list[Values]:
    draw = np.random.default_rng(0)
    shape = (config.training.batch_size, config.training.sequence_length)
    segments = np.arange(shape[1])[None] >= draw.integers(2, shape[1], (shape[0], 1))
    return [
        {
            "batch/tokens": draw.integers(0, config.model.vocab_size, shape),
            "batch/targets": draw.integers(0, config.model.vocab_size, shape),
            "batch/segments": segments.astype(np.int64),
            "batch/sources": draw.integers(0, SOURCES, shape),
        }
        for _ in range(STEPS)
    ]


def _rate(config: RunConfig, step: int) -> float:
    """As late in training as it is largest: the first steps of a schedule hardly move a weight."""
    return config.optimizer_as_built.rate * (1 + step) / 4


def _plain(
    config: RunConfig, step: StepGraph, batches: Sequence[Values], poisoned: int | None
) -> tuple[Values, Values, list[float]]:
    """What the steps are given, what they leave, and their losses."""
    model = Glam(config.model_as_built, dtype=torch.float64)
    load_shape = (config.model.num_moe_layers, config.model.num_experts)
    means = RunningMeans(SOURCES, load_shape, "cpu")
    state = TrainState(means, config.training, EnergyByPhase(None))
    module = TrainingModule(model, config, state)
    module.learning_rate = lambda number: _rate(config, number)  # type: ignore[method-assign]
    module.stop_if_due = lambda: None  # type: ignore[method-assign]  # there is no loop to stop
    optimizer = module.configure_optimizers()
    names = {parameter: name for name, parameter in model.named_parameters()}
    before = {name: np.zeros(value.shape, _numpy(value)) for name, value in step.inputs.items()}
    for parameter, name in names.items():
        before[f"weight/{name}"] = parameter.detach().numpy().copy()
    losses, scale = list[float](), model.norm.scale_M
    for number, batch in enumerate(batches):
        kept = scale.detach().clone()
        if number == poisoned:
            scale.data.fill_(torch.nan)
        parts = StepBatch(*(torch.from_numpy(batch[f"batch/{part}"]) for part in StepBatch._fields))

        def learn(parts: StepBatch = parts) -> None:
            optimizer.zero_grad()
            module.training_step(parts, 0).backward()
            losses.append(module._loss.item())

        module.optimizer_step(0, 0, optimizer, learn)
        if number == poisoned:
            scale.data.copy_(kept)
    after = {f"weight/{name}": p.detach().numpy() for p, name in names.items()}
    for parameter, kept in optimizer.state.items():
        named = {f"state/{names[parameter]}/{key}": value for key, value in kept.items()}
        after |= {name: np.asarray(value) for name, value in named.items()}
    after |= {f"mean/{name}": value.numpy() for name, value in means.sums.items()}
    after["counts"] = np.asarray([state.skipped, state.skipped_in_a_row])
    return before, after, losses


def _numpy(value: torch.Tensor) -> Any:
    return torch.empty(0, dtype=value.dtype).numpy().dtype


def _compiled(
    step: StepGraph, mesh: Mapping[str, int], plant: str | None
) -> Callable[[Values], Values]:
    """The step, compiled for as many of the CPU's virtual devices as the mesh has."""
    import jax
    from jax._src.lib import xla_client
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from glam.planning.libtpu import options

    jax.config.update("jax_enable_x64", True)
    devices = jax.devices("cpu")[: int(np.prod(list(mesh.values())))]
    faulty = {
        name: tuple(reversed(axes)) if plant == "layout" and name.endswith("w_in_EMH") else axes
        for name, axes in step.axes.items()
    }
    program = laid_out(
        step._replace(axes=faulty), mesh, _wrong_constant if plant == "constant" else str
    )
    run = devices[0].client.compile_and_load(
        program,
        executable_devices=xla_client.DeviceList(tuple(devices)),
        compile_options=options(len(devices)),
    )
    here = Mesh(np.array(devices).reshape(tuple(mesh.values())), tuple(mesh))
    lies = {
        name: NamedSharding(here, PartitionSpec(*step.axes.get(name, ()))) for name in step.inputs
    }

    def call(given: Values) -> Values:
        arrays = [jax.device_put(given[name], lies[name]) for name in step.inputs]
        parts = run.execute_sharded(arrays).disassemble_into_single_device_arrays()
        return {
            name: _joined(pieces, lies[name].devices_indices_map(given[name].shape), given[name])
            for name, pieces in zip(step.outputs, parts, strict=True)
        }

    return call


def _joined(pieces: Sequence[Any], places: Mapping[Any, Any], like: np.ndarray) -> np.ndarray:
    whole = np.empty_like(like)
    for piece in pieces:
        [device] = piece.devices()
        whole[places[device]] = np.asarray(piece)
    return whole


def _wrong_constant(text: str) -> str:
    """The norm's epsilon a hundred times as large."""
    assert "9.9999999999999995E-7" in text
    return text.replace("9.9999999999999995E-7", "9.9999999999999995E-5")


def _compared(before: Values, made: Values, after: Values, losses: Sequence[float]) -> Differences:
    def largest(kind: str, scale: Callable[[str], float]) -> float:
        # A model without experts has no loads.
        names = [name for name in after if name.startswith(kind) and after[name].size]
        assert names
        return max(float(np.abs(made[n] - after[n]).max()) / scale(n) for n in names)

    tiny = 1e-30
    found, expected = (np.nan_to_num(x, nan=-1.0) for x in (made["recent"], np.asarray(losses)))
    return Differences(
        loss=float(np.abs(found[-len(losses) :] - expected).max()),
        skipped=float(np.abs(made["counts"] - after["counts"]).max()),
        means=largest("mean/", lambda n: np.abs(after[n]).max() + tiny),
        state=largest("state/", lambda n: np.abs(after[n]).max() + tiny),
        weights=largest("weight/", lambda n: np.abs(after[n] - before[n]).max() + tiny),
    )
