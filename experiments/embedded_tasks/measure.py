"""`python -m experiments.embedded_tasks.measure runs/<run> …`: the embedded tasks of trained runs
and of untrained models (results.csv), what demonstrations change, item by item
(demonstrations.csv), and what all of it takes on one core (seconds.csv)."""

import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from experiments.tables import refuse
from glam.analysis.items import item_differences
from glam.analysis.tasks import above_chance, is_above_chance
from glam.config import EvaluationConfig, RunConfig
from glam.data import PreparedData, prepare
from glam.evaluation.judge import SuiteResult, run_suite
from glam.evaluation.language_model import GlamLM
from glam.evaluation.suites import SUITES
from glam.evaluation.suites.embedded.items import make_items
from glam.machine.processor import processor
from glam.model import Glam
from glam.runs.folder import RunFolder

T = TypeVar("T")
HERE = Path(__file__).parent
SHOTS = 4
UNTRAINED = range(10)  # seeds
SCORE = ("model", "demonstrations", "task", "metric", "items", "value", "low", "high", "chance")
CHANGE = ("model", "task", "items", "change", "low", "high", "smallest", "adjusted p")


def main(folders: list[str]) -> None:
    if not folders:
        refuse("name the folder of a trained run: runs/<run>")
    torch.set_num_threads(1)
    runs = [RunFolder(Path(folder)) for folder in folders]
    config = runs[0].run_config()
    prepared = prepare(config.data, config.model.vocab_size, config.cache_path)
    assert prepared.texts is not None
    texts, seconds = prepared.texts, dict[str, float]()
    _timed("making the items", seconds, lambda: make_items(texts))
    scores: list[list[Any]] = []
    both: dict[str, tuple[SuiteResult, SuiteResult]] = {}
    for name, model in _models(runs, config):
        said = f"judging {name}, without demonstrations"
        zero = _timed(said, seconds, lambda m=model: _judged(m, prepared, 0))
        scores += _rows(name, 0, zero)
        if not name.startswith("untrained"):
            said = f"judging {name}, with {SHOTS}"
            few = _timed(said, seconds, lambda m=model: _judged(m, prepared, SHOTS))
            scores += _rows(name, SHOTS, few)
            both[name] = zero, few
    write("results.csv", [[*SCORE, "p (Holm)", "above chance"], *scores])
    write("demonstrations.csv", [[*CHANGE], *_changes(both)])
    rows = [[what, f"{took:.1f}", processor().name] for what, took in seconds.items()]
    write("seconds.csv", [["what", "seconds of one core", "processor"], *rows])


def _timed(what: str, seconds: dict[str, float], work: Callable[[], T]) -> T:
    start = time.process_time()
    found = work()
    seconds[what] = time.process_time() - start
    return found


def _models(runs: list[RunFolder], config: RunConfig) -> Iterator[tuple[str, Glam]]:
    for run in runs:
        yield run.path.name.rpartition("-")[0], Glam.from_run(run.path)
    for seed in UNTRAINED:
        model = Glam(config.model)
        model.initialize(seed)
        yield f"untrained (seed {seed})", model.eval()


def _judged(model: Glam, prepared: PreparedData, shots: int) -> SuiteResult:
    evaluation = EvaluationConfig()
    loaded = SUITES["embedded"]().load(evaluation, prepared)
    lm = GlamLM(model, prepared.tokenizer, max_length=evaluation.max_length)
    for task in loaded.tasks.values():
        task.set_config("num_fewshot", shots)
    return run_suite(lm, loaded)


def _rows(name: str, shots: int, found: SuiteResult) -> list[list[Any]]:
    p_values = above_chance({one.task: vars(one) for one in found.scores})
    return [
        [
            *(name, shots, one.task, one.metric, one.items),
            *(f"{part or 0:.3f}" for part in (one.value, one.low, one.high, one.chance)),
            *(f"{p_values[one.task]:.2g}", is_above_chance(p_values[one.task])),
        ]
        for one in found.scores
    ]


def _changes(both: dict[str, tuple[SuiteResult, SuiteResult]]) -> list[list[Any]]:
    pairs = {name: ([zero.items()], [few.items()]) for name, (zero, few) in both.items()}
    return [
        [
            *(name, one.task, one.items, f"{one.mean:+.3f}"),
            *(f"{end:+.3f}" for end in one.interval or ()),
            *(f"{one.smallest or 0:.3f}", f"{one.adjusted:.2g}"),
        ]
        for name, differences in item_differences(pairs).items()
        for one in differences
    ]


def write(name: str, rows: list[list[Any]]) -> None:
    with (HERE / name).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
