"""`python -m experiments.deduplication.memory`: memory and time of finding copies among random
signatures, a tenth of them equal to earlier ones and a twentieth near them; writes `memory.csv`."""

import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from glam.config import DedupConfig
from glam.data.dedup import Signed, write_copies

HERE = Path(__file__).parent
SHARD, BANDS = 100_000, 14
EQUAL, NEAR, CHANGED = 10_000, 5_000, 0.1  # documents of a shard; share of a copy's minima
SIZES = (250_000, 500_000, 1_000_000, 2_000_000)


def main() -> None:
    with (HERE / "memory.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["documents", "cpu_s", "MB before", "MB at the peak", "planted", "told"])
        for size in SIZES:  # apart: a peak of memory is that of its process so far
            command = [sys.executable, "-m", "experiments.deduplication.memory", str(size)]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            writer.writerow(ran.stdout.split())


def measure(documents: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = [_shard(folder, index) for index in range(-(-documents // SHARD))]
        before, start = _peak(), time.process_time()
        out = folder / "copies"
        out.mkdir()
        write_copies(out, shards, DedupConfig())
        seconds = time.process_time() - start
        told = sum(int((np.load(file) > 0).sum()) for file in out.iterdir())
        planted = (EQUAL + NEAR) * (len(shards) - 1)
        print(documents, round(seconds, 1), round(before), round(_peak()), planted, told)


def _shard(folder: Path, index: int) -> Signed:
    hashes, bands, draw = _drawn(index)
    if index:  # of documents of the shard before, none of them a copy itself
        old_hashes, old_bands, _ = _drawn(index - 1)
        hashes[:EQUAL], bands[:EQUAL] = old_hashes[-EQUAL:], old_bands[-EQUAL:]
        near = old_bands[-EQUAL - NEAR : -EQUAL].copy().view(np.uint8)
        changed = draw.random(near.shape) < CHANGED
        near[changed] = draw.integers(0, 256, int(changed.sum()))
        bands[EQUAL : EQUAL + NEAR] = near.view(np.uint64)
    files = folder / f"hashes-{index}.npy", folder / f"bands-{index}.npy"
    for file, array in zip(files, (hashes, bands), strict=True):
        np.save(file, array)
    return Signed(*files, 2)


def _drawn(index: int):
    draw = np.random.default_rng(index)
    hashes = draw.integers(0, 2**64, SHARD, np.uint64)
    return hashes, draw.integers(0, 2**64, (SHARD, BANDS), np.uint64), draw


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    measure(int(sys.argv[1])) if len(sys.argv) > 1 else main()
