"""Times a few training steps on this machine: the throughput that a plan goes by."""

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch

from glam.config import RunConfig
from glam.errors import UserError
from glam.machine.load import LoadMeter
from glam.machine.resources import Resources, tune_malloc
from glam.model import Glam
from glam.model.gradient_pool import pooling
from glam.planning.memory import memory
from glam.planning.throughput import BACKWARD, Throughput, flops_per_second, machine_key
from glam.runs.folder import write_atomically
from glam.training.optimizers import build_optimizer
from glam.units import byte_size

SECONDS, ROUNDS = 3.0, 1  # at least, of turns, and turns after the first
STEP_SECONDS = 1.0  # about what a turn may take: fewer rows where all of them take longer

Work = Callable[[], object]


class Timed(NamedTuple):
    """Seconds of one step."""

    passes: float  # forward and backward
    update: float


def calibrate(config: RunConfig, resources: Resources, file: Path) -> Throughput:
    """Time training steps on this machine, and keep the throughput in `file`, unless other
    processes used the cores meanwhile. A deep model is timed with as few layers as have one of each
    kind, and with twice as many; large batches with fewer rows.

    Raises UserError where not even those layers fit."""
    torch.set_num_threads(resources.threads)
    tune_malloc()
    rows = _rows(config, resources)
    depths = _depths(config)
    smaller = [_shrunk(config, layers, rows) for layers in depths]
    _check_fits(smaller[-1], resources)
    meter = LoadMeter.start()
    with pooling():
        timed = _timed(smaller, resources)
    load = meter.stop()
    seconds = _step_seconds(config, timed, depths, rows)
    speed = config.training.tokens_per_step / seconds
    if resources.device == "cpu" and load.slows(resources.threads):
        source = f"timed on this machine under load, not kept: {load}"
        return Throughput(speed, source, "under load")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = {"tokens_per_second": speed, "date": now, "machine": machine_key(resources)}
    found |= {"rows": rows, "layers": depths, "seconds": timed, "load": str(load)}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(found) + "\n")
    return Throughput(speed, f"calibrated on this machine, {now[:10]}", "calibrated")


def _depths(config: RunConfig) -> list[int]:
    """Numbers of layers to time: one and two periods of dense and MoE layers, or all layers."""
    model = config.model
    period = max(1, model.moe_every)
    return [period, 2 * period] if model.num_layers > 2 * period else [model.num_layers]


def _check_fits(config: RunConfig, resources: Resources) -> None:
    model, needed = config.model, memory(config, resources.precision).total
    if needed > resources.memory_bytes:
        raise UserError(
            f"task.calibrate=true: {model.num_layers} layers of model={model.name} need "
            f"{byte_size(needed)} and this machine has {byte_size(resources.memory_bytes)}; "
            f"leave it out, and the throughput is modelled"
        )


def _step_seconds(
    config: RunConfig, timed: tuple[Timed, Timed], depths: Sequence[int], rows: int
) -> float:
    """Of a whole step of the whole model: linear in layers and, but for the update, in rows."""
    first, last = timed
    more = (config.model.num_layers - depths[0]) / depths[0] if len(depths) > 1 else 0.0
    passes = first.passes + more * max(0.0, last.passes - first.passes)
    update = first.update + more * max(0.0, last.update - first.update)
    return passes * config.training.batch_size / rows + update


def _rows(config: RunConfig, resources: Resources) -> int:
    training = config.training
    flops = BACKWARD * config.flops_per_token * training.sequence_length
    affordable = int(STEP_SECONDS * flops_per_second(resources) / flops)
    return max(1, min(training.batch_size, affordable))


def _shrunk(config: RunConfig, layers: int, rows: int) -> RunConfig:
    training = dataclasses.replace(config.training, batch_size=rows)
    model = dataclasses.replace(config.model, num_layers=layers)
    return dataclasses.replace(config, model=model, training=training)


def _timed(configs: Sequence[RunConfig], resources: Resources) -> tuple[Timed, Timed]:
    """Of the first and the last configuration, which take turns. The fastest turn counts: whatever
    else runs on the machine only slows."""
    works = [_works(config, resources) for config in (configs[0], configs[-1])]
    best = [[float("inf"), float("inf")] for _ in works]
    end = time.perf_counter() + SECONDS
    for round_ in itertools.count():
        for work, fastest in zip(works, best, strict=True):
            for index, part in enumerate(work):
                fastest[index] = min(fastest[index], _seconds(part, resources))
        if round_ >= ROUNDS and time.perf_counter() > end:
            break
    first, last = (Timed(*fastest) for fastest in best)
    return first, last


def _works(config: RunConfig, resources: Resources) -> tuple[Work, Work]:
    """A forward and backward pass, and an update, as training makes them."""
    training = config.training
    dtype = torch.bfloat16 if resources.precision == "bfloat16" else torch.float32
    model = Glam(config.model, dtype=dtype, rematerialize=training.rematerialize)
    model = model.to(resources.device)
    optimizer = build_optimizer(config.optimizer_as_built, model)
    # Some tokens are more frequent than others, as in text, and load some experts more.
    drawn = torch.rand(training.batch_size, training.sequence_length + 1).square()
    batch = (drawn * config.model.vocab_size).long().to(resources.device)
    segments = torch.zeros_like(batch[:, 1:])

    def passes() -> None:
        optimizer.zero_grad()
        output = model.loss(batch[:, :-1], batch[:, 1:], segments)
        torch.autograd.backward(output.loss + output.balance_loss)

    return passes, optimizer.step


def _seconds(work: Work, resources: Resources) -> float:
    start = time.perf_counter()
    work()
    if resources.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
