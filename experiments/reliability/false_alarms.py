"""`python -m experiments.reliability.false_alarms [<cache folder>]`: does a sound run ever go back?
Trains fifty short runs over sizes and learning rates on the embedded text, judges the loss of every
step by the default rule, and writes `false_alarms.csv` beside this file.

`closest` is the largest rise of a loss above the median of its window, over the rise that would
have been a spike: an alarm is above 1.
"""

import csv
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

from glam.config import (
    AdamWConfig,
    EvaluationConfig,
    LoggerConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from glam.machine.resources import pin_threads, resolve
from glam.runs.folder import RunFolder
from glam.tasks.prepare import prepared_text

STEPS, SEQUENCE = 300, 64
SIZES = {
    "dense, width 32": (1, 32, 4),
    "4 experts, width 32": (4, 32, 4),
    "16 experts, width 32, one row": (16, 32, 1),
    "16 experts, width 64": (16, 64, 4),
    "64 experts, width 32": (64, 32, 8),
}  # experts, d_model, rows of a batch
LEARNING_RATES = (0.001, 0.003, 0.006, 0.012, 0.024)
SEEDS = (0, 1)
TABLE = Path(__file__).with_suffix(".csv")


class Judged(NamedTuple):
    """How the losses of a run were judged."""

    size: str
    learning_rate: float
    seed: int
    steps: int
    alarms: int
    closest: float
    loss: float  # nats per token, mean of the last window


def runs(cache: str) -> Iterator[tuple[str, float, int, RunConfig]]:
    for size, (experts, width, rows) in SIZES.items():
        model = ModelConfig(num_experts=experts, d_model=width, d_ff=4 * width)
        training = TrainingConfig(
            tokens=STEPS * rows * SEQUENCE, batch_size=rows, sequence_length=SEQUENCE
        )
        for rate, seed in product(LEARNING_RATES, SEEDS):
            yield (
                size,
                rate,
                seed,
                RunConfig(
                    model=model,
                    training=training,
                    optimizer=AdamWConfig(learning_rate=rate),
                    evaluation=EvaluationConfig(points=0),
                    logger=LoggerConfig(name="none"),
                    seed=seed,
                    cache_dir=cache,
                ),
            )


def judged(config: RunConfig, folder: Path) -> tuple[int, float, list[float]]:
    """Alarms, the closest rise, and the losses of a run."""
    from glam.engines.choose import choose_engine
    from glam.training import train
    from glam.training.rollback import LossWatch

    rises, losses = list[float](), list[float]()
    see = LossWatch.see

    def noted(watch: LossWatch, loss: float) -> None:
        if usual := watch.usual():
            rises.append((loss - usual.middle) / (usual.limit - usual.middle))
        losses.append(loss)
        see(watch, loss)

    LossWatch.see = noted  # type: ignore[method-assign]
    try:
        resources = resolve(config)
        pin_threads(resources)
        folder.mkdir()
        engine = choose_engine(config, resources)
        result = train(config, prepared_text(config), RunFolder(folder), resources, engine=engine)
    finally:
        LossWatch.see = see  # type: ignore[method-assign]
    return len(result.rollbacks) + (result.status == "diverged"), max(rises), losses


def main(cache: str = "cache") -> None:
    rows = list[Judged]()
    with tempfile.TemporaryDirectory() as folder:
        for size, rate, seed, config in runs(cache):
            alarms, closest, losses = judged(config, Path(folder, str(len(rows))))
            window = config.training.spike_window
            mean = sum(losses[-window:]) / window
            rows.append(Judged(size, rate, seed, len(losses), alarms, closest, mean))
            print(*rows[-1], sep="  ", flush=True)
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Judged._fields)
        writer.writerows([*row[:5], f"{row.closest:.3f}", f"{row.loss:.3f}"] for row in rows)
    print(f"{sum(row.alarms for row in rows)} alarms in {len(rows)} runs; {TABLE}")


if __name__ == "__main__":
    main(*sys.argv[1:])
