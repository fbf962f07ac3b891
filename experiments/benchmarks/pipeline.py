"""From packaged text to packed tokens, stage by stage: seconds, and tokens per second of CPU."""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from glam.config import DataConfig, ModelConfig, TrainingConfig
from glam.data import TrainStream, prepare
from glam.data.pipeline import Pipeline
from glam.data.tokens import read_encoded

BATCHES = 2000


def measure() -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory() as cache:
        yield from _stages(Path(cache))


def _stages(cache: Path) -> Iterator[dict[str, object]]:
    # In this process, whose time is measured.
    data, vocabulary = DataConfig(workers=1), ModelConfig().vocab_size
    pipeline = Pipeline(data, vocabulary, cache)
    stages: dict[str, Callable[[], object]] = {
        "read documents": lambda: pipeline.shards,
        "find copies": lambda: pipeline.copies,
        "split": lambda: pipeline.sides,
        "cut into pages": lambda: pipeline.pages,
        "train the tokenizer": lambda: pipeline.tokenizer,
        "classify": lambda: pipeline.ranks,
        "encode": lambda: pipeline.tokens,
        "calibrate, sample, mix": lambda: prepare(data, vocabulary, cache),
    }
    taken = {name: _timed(stage) for name, stage in stages.items()}
    tokens = sum(
        len(read_encoded(folder / side, pipeline.tokenizer).tokens)
        for folder in pipeline.tokens.values()
        for side in ("training", "held_out")
    )
    for name, (wall, cpu) in taken.items():
        yield _row(name, wall, cpu, tokens)
    wall, cpu = (sum(column) for column in zip(*taken.values(), strict=True))
    yield _row("all of these", wall, cpu, tokens)
    yield _serve(prepare(data, vocabulary, cache))


def _serve(prepared: object) -> dict[str, object]:
    training = TrainingConfig()
    stream = TrainStream(prepared, training.sequence_length, training.batch_size, 0)  # type: ignore[arg-type]
    wall, cpu = _timed(lambda: [stream.batch(index) for index in range(BATCHES)])
    return _row("serve packed batches", wall, cpu, BATCHES * training.tokens_per_step)


def _timed(stage: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    stage()
    return time.perf_counter() - wall, time.process_time() - cpu


def _row(stage: str, wall: float, cpu: float, tokens: int) -> dict[str, object]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {
        "stage": stage,
        "wall_s": wall,
        "cpu_s": cpu,
        "tokens": tokens,
        "tokens_per_cpu_s": tokens / max(cpu, 1e-9),
        "process_peak_mb": peak,
    }
