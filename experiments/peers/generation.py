"""Writing text, a batch at a time on one thread: beside HF `generate` on the exported folder, and
beside llama.cpp on a Mixtral of our sizes (`gguf_model.py` says why not on the export).

Each writes as many tokens after a prompt of three, the likeliest each time.
"""

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.generation import LARGE, _model, _written, _written_by_peer, exported
from experiments.benchmarks.layer import TYPES
from experiments.benchmarks.timing import Work, interleaved
from experiments.peers import gguf_model
from glam.config import ModelConfig

Row = dict[str, object]
MODELS = {"default": (ModelConfig(), (1, 16), 128), "0.15 B active": (LARGE, (1,), 16)}
KINDS = {"float32": "F32", "bfloat16": "BF16"}
BASELINE = "HF generate"


def measure(rounds: int = 5) -> Iterator[Row]:
    for name, (config, batches, tokens) in MODELS.items():
        for dtype_name, dtype in TYPES.items():
            yield from _of_a_model(name, config, batches, tokens, dtype_name, dtype, rounds)


def _of_a_model(
    name: str,
    config: ModelConfig,
    batches: tuple[int, ...],
    tokens: int,
    dtype_name: str,
    dtype: torch.dtype,
    rounds: int,
) -> Iterator[Row]:
    model = _model(config, torch.float32)
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(exported(model)).to(dtype)
        llama = stack.enter_context(_llama(config, KINDS[dtype_name]))
        if dtype == torch.bfloat16:
            model = model.to(dtype)
            model.dtype = dtype
        for batch in batches:
            works: dict[str, Work] = {
                BASELINE: partial(_written_by_peer, peer, tokens, batch),
                "glam": partial(_written, model, tokens, batch),
            }
            if llama is not None and batch == 1:
                works["llama.cpp, a Mixtral"] = partial(_written_by_llama, llama, tokens, count())
            about: Row = {
                "work": "writing",
                "shape": f"{name}, batch {batch}, {tokens} tokens",
                "dtype": dtype_name,
            }
            label = f"writing, {name}, {dtype_name}, {batch}"
            for row in interleaved(works, BASELINE, rounds=rounds, turn=0.1, label=label):
                rate = 1e3 * tokens * batch / float(str(row["ms"]))
                yield about | row | {"tokens_per_s": rate}


@contextlib.contextmanager
def _llama(config: ModelConfig, kind: str) -> Iterator[Any]:
    """None where its package is not installed."""
    if importlib.util.find_spec("llama_cpp") is None:
        yield None
        return
    import llama_cpp

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mixtral.gguf"
        gguf_model.write(config, file, kind)
        made = llama_cpp.Llama(str(file), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False)
        yield made
        made.close()


def _written_by_llama(llama: Any, tokens: int, numbers: Iterator[int]) -> None:
    llama.reset()
    llama.eval([1, 5 + next(numbers) % 50, 7])
    for _ in range(tokens - 1):
        llama.eval([int(llama.scores[llama.n_tokens - 1].argmax())])
