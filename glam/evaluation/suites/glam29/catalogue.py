"""The 29 benchmarks by name, in the order of the paper's categories."""

from glam.evaluation.suites.glam29 import (
    cloze,
    commonsense,
    nli,
    open_domain,
    reading,
    superglue,
    winograd,
)
from glam.evaluation.suites.glam29.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    one.name: one
    for module in (open_domain, cloze, winograd, commonsense, reading, superglue, nli)
    for one in module.BENCHMARKS
}
