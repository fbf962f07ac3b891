"""`make bench-tpu`: the first quarter of an hour on a TPU. Twenty steps against the CPU, speed and
memory of three models, a checkpoint and a resume; writes rows.csv, which names the device.

    python -m experiments.tpu_first_hour                    the chips of this machine
    python -m experiments.tpu_first_hour --device cpu       a dry run by processes of this CPU
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.tpu_first_hour import rows
from experiments.tpu_first_hour.rows import Row
from glam.config import ROOT
from glam.machine.processor import processor
from glam.machine.tpu import chips

DRIVER = Path(__file__).parent / "run_measured.py"
SECONDS_TO_END = 60.0  # that a run has after it was asked to stop
PACKAGES = ("torch", "torch_tpu", "libtpu", "jax", "lightning")
FEW = (
    "data=unfiltered",
    "data/corpus=local",
    "evaluation=held_out",
    "evaluation.points=0",
    "evaluation.tokens_per_domain=1024",
    "logger=none",
    "training.log_every=1",
    "training.batch_size=8",
    "model.vocab_size=2048",
    "training.sequence_length=128",
)
SMALL = ("model=glam_tiny",)  # for the steps and for the resume
STEPS, STEPS_OF_RESUME = 20, 40
# Slices of one host, by their chips; a dry run asks of the last.
SLICES = {1: "1x1", 4: "2x2", 8: "2x4"}
WORDS, DOCUMENTS, WORDS_OF_DOCUMENT = 20_000, 2_000, 200
MODELS = {
    "glam_tiny": ("model=glam_tiny",),
    "0.1B": ("model=glam_100m", "training.sequence_length=1024", "training.batch_size=64"),
    "0.1B/64E": ("model=glam_100m64e", "training.sequence_length=1024", "training.batch_size=64"),
}
# What compiles in the time of one block of layers.
AS_LOOP = ("training.rematerialize=true", "hardware.scan=true")
# A dry run shows that the program ends, not how fast anything is.
DRY_MODELS = {name: (*SMALL, f"model.num_experts={n}") for name, n in (("8E", 8), ("16E", 16))}
ON_CPU = (
    "hardware=cpu",
    "hardware.precision=float32",
    "hardware.threads=1",
    "model.dispatcher=capacity",
)


class Bench(NamedTuple):
    """The device, the folder that everything is written to, and when to stop."""

    device: str
    chips: int
    hardware: str
    folder: Path
    deadline: float  # time.monotonic

    @property
    def on_device(self) -> tuple[str, ...]:
        line = (
            f"hardware={self.hardware}",
            f"hardware.mesh={{expert:{self.chips},model:1}}",
            "hardware.topology=null",
        )
        return line if self.device == "tpu" else (*line, "hardware.device=cpu")

    @property
    def name(self) -> str:
        if self.device == "tpu":
            return f"{self.hardware.split('_')[1]} x {self.chips}"
        return f"dry run: {processor().name} x {self.chips} processes"

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def line(self, name: str, *overrides: str) -> list[str]:
        places = (f"runs_dir={self.folder / name}", f"cache_dir={self.folder / 'cache'}")
        corpus = f"data.corpus.files=[{self.text}]"
        return [sys.executable, str(DRIVER), *FEW, corpus, *places, *overrides]

    @property
    def text(self) -> Path:
        """A file of made-up text, since real text takes minutes to prepare."""
        return self.folder / "words.jsonl"

    def environment(self, name: str) -> dict[str, str]:
        peaks = self.folder / name / "peaks"
        peaks.mkdir(parents=True, exist_ok=True)
        return {**os.environ, "GLAM_PEAKS": str(peaks)}

    def train(self, name: str, *overrides: str) -> Path:
        """The folder of a run to its end. Raises CalledProcessError, and TimeoutExpired at the
        deadline."""
        command = self.line(name, *overrides)
        environment = self.environment(name)
        subprocess.run(command, check=True, env=environment, timeout=max(self.left, 1))
        [run] = (self.folder / name).glob("*-s0-*")
        return run

    def plan(self, *overrides: str) -> dict[str, Any]:
        command = self.line("plans", *overrides, "task=plan", "task.format=json")
        said = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, timeout=max(self.left, 1)
        )
        return json.loads(said.stdout)

    @property
    def described(self) -> tuple[str, ...]:
        """The chips as a slice for their compiler, which looks for none."""
        number = self.chips if self.device == "tpu" else max(SLICES)
        shape = f"hardware.topology={self.hardware.split('_')[1]}:{SLICES[number]}"
        mesh = f"hardware.mesh={{expert:{number},model:1}}"
        return f"hardware={self.hardware}", mesh, shape


def write_text(file: Path) -> None:
    """Documents of words that are as unequally frequent as those of a language."""
    rng = np.random.default_rng(0)
    syllables = [c + v for c in "bdfgklmnprst" for v in "aeiou"]
    words = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(WORDS)]
    ranks = np.minimum(rng.zipf(1.3, (DOCUMENTS, WORDS_OF_DOCUMENT)), WORDS) - 1
    documents = (" ".join(words[rank] for rank in each) for each in ranks)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))


def tokens(overrides: tuple[str, ...], steps: int) -> int:
    """Of `steps` steps of a line."""
    named = dict(override.split("=", 1) for override in (*FEW, *overrides))
    return steps * int(named["training.batch_size"]) * int(named["training.sequence_length"])


def of_steps(bench: Bench) -> list[Row]:
    """The device's losses against those of one process of the CPU, in float32."""
    budget = f"training.tokens={tokens((), STEPS)}"
    single = bench.train("cpu", *SMALL, *ON_CPU, budget)
    precise = (*bench.on_device, "hardware.precision=float32")
    found = bench.train("steps", *SMALL, *precise, budget)
    worst = rows.difference(single, found)
    return [Row("steps", "glam_tiny", f"largest difference of {STEPS} losses", f"{worst:.2e}")]


def of_model(bench: Bench, name: str, overrides: tuple[str, ...]) -> list[Row]:
    """Speed and memory of one model."""
    plan = bench.plan(*overrides, *bench.on_device)
    folder = f"model-{name.replace('/', '-')}"
    budget = f"training.tokens={tokens(overrides, STEPS)}"
    run = bench.train(folder, *overrides, *bench.on_device, budget)
    speed = rows.speed(name, run, plan, tokens(overrides, 1), bench.chips * peak(bench))
    return speed + rows.memory(name, bench.folder / folder / "peaks", plan)


def of_compiler(bench: Bench, name: str, overrides: tuple[str, ...]) -> list[Row]:
    """What the TPU's compiler says that a step of one model needs, where it is installed."""
    if find_spec("torch_tpu") is None or (bench.device == "tpu" and bench.chips not in SLICES):
        return [Row("memory", name, "bytes, compiler", "", "make tpu, on 1, 4 or 8 chips")]
    plan = bench.plan(*overrides, *bench.described, *AS_LOOP, "task.compile=true")
    return [rows.compiler(name, plan, bench.described[-1].partition("=")[2])]


def peak(bench: Bench) -> float:
    """FLOP/s of one chip, as its file has it."""
    import yaml

    kind = "_".join(["", *bench.hardware.split("_")[:2]])
    return (
        yaml.safe_load((ROOT / "conf" / "hardware" / f"{kind}.yaml").read_text())["peak_tflops"]
        * 1e12
    )


def of_resume(bench: Bench) -> list[Row]:
    """A run that is asked to stop and goes on, against one that was not."""
    line = (*SMALL, *bench.on_device, f"training.tokens={tokens((), STEPS_OF_RESUME)}")
    line = (*line, "hardware.precision=float32")
    whole = bench.train("whole", *line)
    at = _interrupted(bench, line)
    found = bench.train("resumed", *line)
    worst = rows.difference(whole, found)
    note = f"asked to stop after step {at} of {STEPS_OF_RESUME}"
    return [Row("resume", "glam_tiny", "largest difference of losses", f"{worst:.2e}", note)]


def _interrupted(bench: Bench, line: tuple[str, ...]) -> int:
    """Steps in the log of a run that was told to stop when a few stood there."""
    command, environment = bench.line("resumed", *line), bench.environment("resumed")

    def logged() -> int:
        found = list((bench.folder / "resumed").glob("*-s0-*/metrics.csv"))
        return found[0].read_text().count("\n") - 1 if found else 0

    with subprocess.Popen(command, env=environment) as process:
        while process.poll() is None and logged() < 5 and bench.left > 0:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_END)
        process.kill()
    return logged()


def run_all(bench: Bench) -> list[Row]:
    """All checks; one that fails or finds no time costs a row that says so."""
    models = MODELS if bench.device == "tpu" else DRY_MODELS
    checks = {"steps": partial(of_steps, bench), "resume": partial(of_resume, bench)}
    for name, overrides in models.items():
        checks[name] = partial(of_model, bench, name, overrides)
    # After all else, since it is said without a chip too. A dry run sees that one answer comes.
    asked = list(models.items())[: None if bench.device == "tpu" else 1]
    for name, overrides in asked:
        checks[f"compiler {name}"] = partial(of_compiler, bench, name, overrides)
    found = list[Row]()
    for name, check in checks.items():
        try:
            found += check() if bench.left > 0 else [Row(name, "", "left out", "", "no time")]
        except subprocess.TimeoutExpired:
            found.append(Row(name, "", "cut off", "", "no time"))
        except (subprocess.CalledProcessError, ValueError) as error:
            found.append(Row(name, "", "failed", "", str(error).splitlines()[0][-200:]))
        rows.write(found, bench.folder / "rows.csv", bench.name)
    return found


def versions() -> list[str]:
    """Of what computes."""
    lines = [f"python {platform.python_version()}", f"processor {processor().name}"]
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            lines.append(f"{package} {metadata.version(package)}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="The first quarter of an hour on a TPU.")
    parser.add_argument("--device", choices=("tpu", "cpu"), default="tpu")
    parser.add_argument("--hardware", default="tpu_v6e_8", help="a file of conf/hardware")
    parser.add_argument("--minutes", type=float, default=15)
    asked = parser.parse_args()
    number = len(chips()) if asked.device == "tpu" else 2
    if not number:
        print(
            "error: there is no TPU here; make bench-tpu DEVICE=cpu is a dry run", file=sys.stderr
        )
        return 2
    folder = ROOT / "runs" / f"bench-tpu-{asked.device}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "versions.txt").write_text("\n".join(versions()) + "\n")
    write_text(folder / "words.jsonl")
    deadline = time.monotonic() + 60 * asked.minutes
    found = run_all(Bench(asked.device, number, asked.hardware, folder, deadline))
    for row in found:
        print("  ".join(part for part in row if part))
    where = folder.relative_to(ROOT)
    print(f"send back: {where}/rows.csv, {where}/versions.txt, and the lines above this table")
    return int(any(row.figure in ("failed", "cut off", "left out") for row in found))


if __name__ == "__main__":
    sys.exit(main())
