"""Whether a second thread pays, by wall-clock time: the reason for FLOPS_WORTH_A_THREAD."""

import statistics
import time
from collections.abc import Iterator

import torch
from rich.progress import track

from experiments.benchmarks.step import LARGE, step
from experiments.benchmarks.timing import ratio
from glam.config import ModelConfig, RunConfig, TrainingConfig
from glam.machine.resources import FLOPS_WORTH_A_THREAD

SIZES = {
    "default": (ModelConfig(), 8, 128),
    "default, 4,096 tokens": (ModelConfig(), 32, 128),
    "M 128": (ModelConfig(d_model=128, d_ff=512), 16, 128),
    "L 4 M 256 E 16": (LARGE, 4, 512),
}


def measure() -> Iterator[dict[str, object]]:
    for name, (config, rows, length) in SIZES.items():
        work = step(config, torch.bfloat16, rows, length)
        taken: dict[int, list[float]] = {1: [], 2: []}
        for _ in track(range(5), f"threads {name}", transient=True):
            for threads, seconds in taken.items():
                torch.set_num_threads(threads)
                work()
                start = time.perf_counter()
                work()
                seconds.append(time.perf_counter() - start)
        torch.set_num_threads(1)
        training = TrainingConfig(batch_size=rows, sequence_length=length)
        flops = 3 * RunConfig(model=config, training=training).flops_per_token * rows * length
        for threads, seconds in taken.items():
            given = max(1, min(2, int(flops // FLOPS_WORTH_A_THREAD["alone"])))
            yield {
                "size": name,
                "threads": threads,
                "wall_ms": 1e3 * statistics.median(seconds),
                **ratio(seconds, taken[1]),
                "gflop": flops / 1e9,
                "threads_given_on_2_cores": given,
            }
