"""A step as on a processor with AVX2 and no AVX-512: torch, MKL, oneDNN and our kernels keep to
AVX2 by their own settings, in a process of its own.

`before`: our kernels between the products only, and torch's products, which is what such a
processor had before `glam/kernels/multiply.h`. On Intel's processors MKL is at its best there.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from unittest.mock import patch

ONLY_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "GLAM_KERNELS": "avx2",
    "OMP_NUM_THREADS": "1",
}
MODULE = "experiments.benchmarks.avx2"
REFERENCE = "before"


def measure() -> Iterator[dict[str, object]]:
    """The rows of a process that has no more than AVX2."""
    command = [sys.executable, "-m", MODULE]
    with subprocess.Popen(
        command, env=os.environ | ONLY_AVX2, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):  # and not of a progress bar
                yield json.loads(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def rows() -> Iterator[dict[str, object]]:
    from experiments.benchmarks.timing import interleaved, one_thread
    from glam.kernels.kernel_set import kernel_set

    assert kernel_set("float32") == "avx2"
    one_thread()
    for size, reference, works, rounds in cases():
        for row in interleaved(works, reference, rounds=rounds, turn=0.4, label=size):
            yield {"size": size, "against": reference, **row}


def cases() -> Iterator[tuple[str, str, dict, int]]:
    """Of each: what is measured, against what, the candidates, rounds."""
    import torch

    from experiments.benchmarks.peers import mixtral
    from experiments.benchmarks.step import LARGE, LENGTH, ROWS, step
    from glam.config import ModelConfig

    def default(experts: int, dtype: torch.dtype = torch.float32):
        return step(ModelConfig(num_experts=experts), dtype, 8, 128)

    for experts in (1, 16, 64):
        works = {REFERENCE: before(default(experts)), "glam": default(experts)}
        yield f"default, E {experts}", REFERENCE, works, 15
    yield "default", "glam E 1", {f"glam E {E}": default(E) for E in (1, 8, 16, 32, 64)}, 15
    large = step(LARGE, torch.float32, ROWS, LENGTH)
    works = {
        "HF Mixtral": mixtral(LARGE, torch.float32, ROWS, LENGTH),
        "before": before(step(LARGE, torch.float32, ROWS, LENGTH)),
        "glam": large,
    }
    yield "L 4 M 256 E 16", "HF Mixtral", works, 5
    emulated = {
        "float32": default(16),
        "bfloat16, emulated": default(16, torch.bfloat16),
    }
    yield "default, E 16, by type", "float32", emulated, 5
    small = {
        "float32": step(LARGE, torch.float32, 1, 256),
        "bfloat16, emulated": step(LARGE, torch.bfloat16, 1, 256),
    }
    yield "L 4 M 256 E 16, by type", "float32", small, 3


@contextlib.contextmanager
def torch_multiplies() -> Generator[None]:
    with (
        patch("glam.kernels.has_gemm", lambda dtype: False, create=True),
        patch("glam.model.loss._kernel_supported", lambda *tensors: False),
        patch("glam.model.feed_forward.products_supported", lambda *tensors: False),
        patch("glam.model.cpu_products.products_supported", lambda *tensors: False),
    ):
        yield


def before(work):
    def run() -> None:
        with torch_multiplies():
            work()

    return run


if __name__ == "__main__":
    for found in rows():
        print(json.dumps(found), flush=True)
