"""Steps of one model on one device, as `TrainingModule` takes them, without Lightning and with
tokens that are there: speed, MFU and memory beside the plan's. Prints the rows as JSON.

python -m experiments.gpu_first_hour.step NAME STEPS OVERRIDE…
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from torch import nn

from experiments.gpu_first_hour.turns import wait
from experiments.tpu_first_hour.rows import Row
from glam.composition.overrides import CONF
from glam.composition.schema import register, to_run_config
from glam.config import RunConfig
from glam.engines.one_device import OneDevice
from glam.machine.peaks import peak_flops, utilization
from glam.machine.resources import Resources, resolve
from glam.model import Glam
from glam.model.init import initialize
from glam.planning.memory import memory
from glam.training.module import UpdatesInBackward
from glam.training.optimizers import UpdatesOneWeight, build_optimizer

RATE = 1e-6  # so small that routing stays as drawn, even


class Steps(NamedTuple):
    """Seconds of the first step and of a later one (the median), and bytes at the peak."""

    first: float
    later: float
    bytes: int


def config_of(overrides: list[str]) -> RunConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_run_config(compose("config", overrides))


def built(config: RunConfig, resources: Resources) -> Glam:
    """On the device. A GPU draws the values of large weights itself, which takes seconds, not
    minutes; the biases stay as a run has them."""
    dtype = torch.bfloat16 if resources.precision == "bfloat16" else torch.float32
    with torch.device("meta"):
        model = Glam(
            config.model_as_built,
            dtype=dtype,
            rematerialize=config.training.rematerialize,
            backend=OneDevice(config, resources).backend,
        )
    model.to_empty(device=resources.device)
    for parameter in model.parameters():
        with torch.no_grad():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=parameter.shape[-2] ** -0.5)
            else:
                parameter.zero_()
    for name, module in model.named_modules():
        if "norm" in name.rpartition(".")[2]:
            initialize(module, 0)
    with torch.no_grad():
        model.embedding.w_VM.normal_(std=model.config.d_model**-0.5)
    return model.train()


def stepping(config: RunConfig, model: Glam) -> Callable[[Any], None]:
    """One step on `(tokens, targets, segments)`."""
    optimizer = build_optimizer(config.optimizer_as_built, model)

    def backward(batch: Any) -> None:
        output = model.loss(*batch)
        (output.loss + output.balance_loss).backward()

    if config.training.update_in_backward:
        assert isinstance(optimizer, UpdatesOneWeight)
        updates = UpdatesInBackward(model, optimizer)
        return lambda batch: void(updates.run(lambda: backward(batch), RATE))

    def step(batch: Any) -> None:
        backward(batch)
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        torch.nn.utils.get_total_norm(grads).item()
        for group in optimizer.param_groups:
            group["lr"] = RATE
        optimizer.step()
        optimizer.zero_grad()

    return step


def void(_: object) -> None: ...


def batch_of(config: RunConfig, device: str) -> Any:
    """Random tokens, their targets, and two documents a row."""
    rows, length = config.training.batch_size, config.training.sequence_length
    tokens = torch.randint(config.model.vocab_size, (rows, length + 1), device=device)
    segments = (torch.arange(length, device=device) >= length // 2).long()
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), segments.repeat(rows, 1)


def measured(config: RunConfig, resources: Resources, steps: int) -> Steps:
    step, seconds = stepping(config, built(config, resources)), list[float]()
    for _ in range(steps):
        batch = batch_of(config, resources.device)
        wait()
        start = time.perf_counter()
        step(batch)
        wait()
        seconds.append(time.perf_counter() - start)
    later = sorted(seconds[len(seconds) // 2 :])
    peak = torch.cuda.max_memory_reserved() if resources.device == "cuda" else 0
    return Steps(seconds[0], later[len(later) // 2], peak)


def rows_of(name: str, steps: int, config: RunConfig) -> list[Row]:
    resources = resolve(config)
    found, plan = measured(config, resources, steps), memory(config, resources.precision).total
    speed = config.training.tokens_per_step / found.later
    mfu = utilization(config, speed, peak_flops(config, resources))
    rows = [
        Row("step", name, "compiled", resources.compiled),
        Row("step", name, "tokens per second", f"{speed:.0f}"),
        Row("step", name, "MFU", "" if mfu is None else f"{mfu:.4f}"),
        Row("step", name, "seconds a step", f"{found.later:.4f}", "median of the second half"),
        Row("step", name, "seconds of compiling", f"{found.first - found.later:.1f}"),
    ]
    if found.bytes:
        rows.append(Row("memory", name, "bytes reserved", str(found.bytes)))
    return [*rows, Row("memory", name, "bytes, plan", str(plan))]


if __name__ == "__main__":
    name, steps, *overrides = sys.argv[1:]
    print(json.dumps(rows_of(name, int(steps), config_of(overrides))))
