"""`make bench-gpu`: the first ten minutes on a GPU. Attention, experts and loss beside what they
are compared with, whole steps with MFU and memory beside the plan's; writes rows.csv, which names
the device.

    python -m experiments.gpu_first_hour                    the first GPU of this machine
    python -m experiments.gpu_first_hour --device cpu       a dry run on this CPU, of tiny sizes
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from experiments.tpu_first_hour import rows
from experiments.tpu_first_hour.__main__ import versions
from experiments.tpu_first_hour.rows import Row
from glam.config import ROOT, HardwareConfig, RunConfig
from glam.errors import UserError
from glam.machine.resources import device_name, resolve

MINUTES = 10.0
SECONDS_OF_A_CHECK = 150.0  # at most, so that one that hangs leaves time to the others
PARTS = ("attention", "experts", "loss", "mixtral")
STEPS = {"cuda": 12, "cpu": 4}
FILLS = ("training.update_in_backward=true", "training.rematerialize=true")
SMALL = ("model=glam_100m64e", "training.batch_size=16")
# By name; the first whose plan fits the card is taken of those that fill it.
STEP_LINES = {
    "0.1B/64E": SMALL,
    "0.1B/64E, attention alone compiled": (*SMALL, "hardware.compile=attention"),
    "0.1B/64E, nothing compiled": (*SMALL, "hardware.compile=off"),
}
FILLING = {
    f"1.7B/{E}E, {rows} rows": (f"model=glam_1b{E}e", *FILLS, f"training.batch_size={rows}")
    for E, rows in ((64, 16), (64, 8), (32, 16), (32, 8))
}
# A dry run shows that the program ends, not how fast anything is.
DRY_LINES = {
    "8E": ("model=glam_tiny", "model.num_experts=8"),
    "8E, filling": ("model=glam_tiny", "model.num_experts=8", "optimizer=adafactor", *FILLS),
}


class Bench(NamedTuple):
    """The device, its name, the folder that is written to, and when to stop."""

    device: str  # cuda | cpu
    name: str
    folder: Path
    deadline: float  # time.monotonic

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def run(self, module: str, *words: str) -> list[Row]:
        """The rows that a module of this package prints, in a process of its own: whatever it does
        to the device ends with it. Raises CalledProcessError, and TimeoutExpired."""
        command = [sys.executable, "-m", f"experiments.gpu_first_hour.{module}", *words]
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor")}
        said = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, **cache},
            timeout=max(1.0, min(self.left, SECONDS_OF_A_CHECK)),
        )
        return [Row(*row) for row in json.loads(said.stdout.splitlines()[-1])]


def lines(bench: Bench) -> dict[str, tuple[str, ...]]:
    """The steps to take, by name; of the models that fill a card the first that fits."""
    if bench.device == "cpu":
        return {name: (*words, "hardware=cpu") for name, words in DRY_LINES.items()}
    found = dict[str, tuple[str, ...]]()
    for name, words in FILLING.items():
        config, needed = planned((*words, "hardware=gpu"))
        if needed <= resolve(config).memory_bytes:
            found[name] = (*words, "hardware=gpu")
            break
    return found | {name: (*words, "hardware=gpu") for name, words in STEP_LINES.items()}


def planned(words: tuple[str, ...]) -> tuple[RunConfig, int]:
    """The configuration of a line, and the bytes that its plan counts."""
    from experiments.gpu_first_hour.step import config_of
    from glam.planning.memory import memory

    config = config_of([*words])
    return config, memory(config, "bfloat16").total


def checks_of(bench: Bench) -> dict[str, tuple[str, ...]]:
    """By name; what is wanted most comes first, since time may end before the checks do."""
    steps = str(STEPS[bench.device])
    found = {name: ("step", name, steps, *words) for name, words in lines(bench).items()}
    parts = {part: ("parts", part, bench.device) for part in PARTS}
    return {"attention": parts["attention"], **found, **parts}


def run_all(bench: Bench) -> list[Row]:
    """All checks; one that fails or finds no time costs a row that says so."""
    checks, found = checks_of(bench), list[Row]()
    for name, words in checks.items():
        try:
            if bench.left <= 0:
                found.append(Row(name, "", "left out", "", "no time"))
            else:
                found += bench.run(*words)
        except subprocess.TimeoutExpired:
            found.append(Row(name, "", "cut off", "", "no time"))
        except (subprocess.CalledProcessError, ValueError, IndexError) as error:
            log = bench.folder / f"{words[0]}-{name.replace('/', '-').replace(' ', '-')}.txt"
            log.write_text(said(error))
            last = (said(error).strip().splitlines() or [""])[-1]
            found.append(Row(name, "", "failed", "", last[-300:]))
        rows.write(found, bench.folder / "rows.csv", bench.name)
        print(f"{name}: {bench.left:.0f} s left", file=sys.stderr)
    return found


def said(error: Exception) -> str:
    """What a process said before it failed."""
    whole = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    return whole or str(error)


def main() -> int:
    parser = argparse.ArgumentParser(description="The first ten minutes on a GPU.")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    asked = parser.parse_args()
    device = "cuda" if asked.device == "gpu" else "cpu"
    try:
        resolve(RunConfig(hardware=HardwareConfig(device=asked.device)))
    except UserError:
        print(
            "error: there is no GPU here that torch can use; "
            "make bench-gpu DEVICE=cpu is a dry run",
            file=sys.stderr,
        )
        return 2
    folder = ROOT / "runs" / f"bench-{asked.device if device == 'cuda' else 'gpu-cpu'}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "versions.txt").write_text("\n".join(versions()) + "\n")
    name = device_name("cuda") if device == "cuda" else f"dry run: {device_name('cpu')}"
    deadline = time.monotonic() + 60 * asked.minutes
    found = run_all(Bench(device, name, folder, deadline))
    shutil.rmtree(folder / "inductor", ignore_errors=True)
    for row in found:
        print("  ".join(part for part in row if part))
    where = folder.relative_to(ROOT)
    print(f"send back: {where}/rows.csv, {where}/versions.txt, and the lines above this table")
    return int(any(row.figure in ("failed", "cut off", "left out") for row in found))


if __name__ == "__main__":
    sys.exit(main())
