"""`python -m experiments.embedded_tasks.measure runs/<run> …`: the embedded tasks of trained runs,
with 0 and 4 demonstrations, and of untrained models. Writes results.csv, and seconds.csv: what they
take on one core, with the processor's name."""

import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments.tables import refuse
from glam.analysis.tasks import above_chance, is_above_chance
from glam.config import EvaluationConfig, RunConfig
from glam.data import PreparedData, prepare
from glam.evaluation.judge import run_suite
from glam.evaluation.language_model import GlamLM
from glam.evaluation.suites import SUITES
from glam.evaluation.suites.embedded.items import make_items
from glam.machine.processor import processor
from glam.model import Glam
from glam.runs.folder import RunFolder

HERE = Path(__file__).parent
SHOTS = (0, 4)
UNTRAINED = range(10)  # seeds
COLUMNS = ("model", "demonstrations", "task", "metric", "items", "value", "low", "high", "chance")


def main(folders: list[str]) -> None:
    if not folders:
        refuse("name the folder of a trained run: runs/<run>")
    torch.set_num_threads(1)
    runs = [RunFolder(Path(folder)) for folder in folders]
    config = runs[0].run_config()
    prepared = prepare(config.data, config.model.vocab_size, config.cache_path)
    seconds = {"making the items": _seconds_of_items(prepared)}
    with (HERE / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, "p (Holm)", "above chance"])
        for name, model in _models(runs, config):
            for shots in SHOTS[: 1 if name.startswith("untrained") else None]:
                start = time.process_time()
                rows = _judged(model, prepared, shots)
                took = time.process_time() - start
                seconds.setdefault(f"judging {name}, {shots} demonstrations", took)
                writer.writerows([name, shots, *row] for row in rows)
                file.flush()
    with (HERE / "seconds.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["what", "seconds of one core", "processor"])
        writer.writerows([what, f"{took:.1f}", processor().name] for what, took in seconds.items())


def _seconds_of_items(prepared: PreparedData) -> float:
    assert prepared.texts is not None
    start = time.process_time()
    make_items(prepared.texts)
    return time.process_time() - start


def _models(runs: list[RunFolder], config: RunConfig) -> Iterator[tuple[str, Glam]]:
    for run in runs:
        yield run.path.name.rpartition("-")[0], Glam.from_run(run.path)
    for seed in UNTRAINED:
        model = Glam(config.model)
        model.initialize(seed)
        yield f"untrained, seed {seed}", model.eval()


def _judged(model: Glam, prepared: PreparedData, shots: int) -> list[list[Any]]:
    evaluation = EvaluationConfig()
    loaded = SUITES["embedded"]().load(evaluation, prepared)
    lm = GlamLM(model, prepared.tokenizer, max_length=evaluation.max_length)
    scores = run_suite(lm, loaded, [shots]).scores
    p_values = above_chance({one.task: vars(one) for one in scores})
    return [
        [
            *(one.task, one.metric, one.items),
            *(f"{part:.3f}" for part in (one.value, one.low or 0, one.high or 0, one.chance or 0)),
            *(f"{p_values[one.task]:.2g}", is_above_chance(p_values[one.task])),
        ]
        for one in scores
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
