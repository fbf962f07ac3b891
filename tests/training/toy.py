"""A run of seconds on made-up text; as a script, a run to be killed.

python toy.py FOLDER STEPS [slow]    slow: saving takes long enough to be caught at it
"""

import sys
import time
from pathlib import Path

import numpy as np

from glam.config import (
    EvaluationConfig,
    LoggerConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from glam.data import Component, PreparedData
from glam.data.tokens import Encoded
from glam.machine.resources import Resources
from glam.runs.folder import RunFolder

VOCAB = 64
SOURCES = ["letters", "numbers"]
RESOURCES = Resources(threads=1, precision="float32", device="cpu", memory_bytes=10**9, cores=1)


class ToyTokenizer:
    """A character is its code less 32; a token stands for one byte."""

    vocab_size, bos, eos = VOCAB, 0, 1
    num_bytes = np.array([0, 0] + [1] * (VOCAB - 2), np.uint8)

    def encode(self, text):
        return [ord(letter) - 32 for letter in text]

    def decode(self, tokens):
        return "".join(chr(token + 32) for token in tokens)


def encoded(seed, documents=40):
    """Documents that count upwards with a step of their own: something to learn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 60, documents)
    parts = [
        np.concatenate([[0], 2 + (rng.integers(9) + rng.integers(1, 4) * np.arange(n - 1)) % 62])
        for n in lengths
    ]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Encoded(
        np.concatenate(parts).astype(np.uint16),
        offsets,
        np.zeros(documents, np.uint64),
        lengths,
    )


def prepared(fingerprint="toy"):
    texts = {source: encoded(number) for number, source in enumerate(SOURCES)}
    components = [
        Component(
            name=component,
            weight=weight,
            parts=(text.tokens,),
            sources=np.array([number], np.uint8),
            part=np.zeros(len(text), np.uint8),
            starts=text.offsets[:-1],
            lengths=text.lengths,
        )
        for number, (text, component, weight) in enumerate(
            zip(texts.values(), ("webpages", "books"), (0.7, 0.3), strict=True)
        )
    ]
    held_out = {source: encoded(number + 10, 6) for number, source in enumerate(SOURCES)}
    return PreparedData(fingerprint, ToyTokenizer(), SOURCES, components, held_out, [], {})


def config(steps=12, *, every_step=False, logger="none", points=3, **changes):
    return RunConfig(
        model=ModelConfig(
            vocab_size=VOCAB, num_layers=2, d_model=16, d_ff=32, num_heads=2, num_experts=4
        ),
        training=TrainingConfig(
            tokens=steps * 32,
            batch_size=2,
            sequence_length=16,
            log_every=5,
            max_skipped=3,
            checkpoint_minutes=1e-9 if every_step else 100,
        ),
        evaluation=EvaluationConfig(points=points, tokens_per_point=64),
        logger=LoggerConfig(name=logger),
        **changes,
    )


def folder(path):
    path.mkdir(parents=True, exist_ok=True)
    return RunFolder(path)


def train(config, prepared, run, resources, *, engine=None, **others):
    """As `task=train` calls it, by the engine that the hardware asks for."""
    from glam.engines.choose import choose_engine
    from glam.training import train

    chosen = engine or choose_engine(config, resources)
    return train(config, prepared, run, resources, engine=chosen, **others)


def main():
    from glam.training import checkpoint, fit

    fit.code_fingerprint = lambda: "toy"  # the source may be edited while a test runs
    if "slow" in sys.argv:
        sync = checkpoint.sync
        checkpoint.sync = lambda path: (time.sleep(0.02), sync(path))
    result = train(
        config(int(sys.argv[2]), every_step=True),
        prepared(),
        folder(Path(sys.argv[1])),
        RESOURCES,
    )
    print(result.status)


if __name__ == "__main__":
    main()
