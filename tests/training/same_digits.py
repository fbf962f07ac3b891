"""Short runs whose digits are on record, and the machine they were recorded on.

python tests/training/same_digits.py    records anew: only after a change that is meant to alter
                                        results
"""

import csv
import hashlib
import json
import subprocess
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
import toy

from glam import kernels
from glam.config import AdafactorConfig, AdamWConfig
from glam.kernels.kernel_set import kernel_set
from glam.machine.processor import CPUINFO, processor

RECORD = Path(__file__).with_name("same_digits.json")
STEPS = 30
OPTIMIZERS = {"adamw": AdamWConfig, "adafactor": AdafactorConfig}
RUNS = [
    *product(("sparse", "dense"), ("float32", "bfloat16"), OPTIMIZERS, ("kernels",)),
    *product(("sparse",), ("float32", "bfloat16"), ("adamw",), ("torch",)),
]
COLUMNS = ("loss", "balance_loss", "grad_norm", "held_out/mean")
ONLY_OF_KERNELS = ("compiler", "kernels")


def machine():
    """What the digits depend on beside the source, by name."""
    here = processor()
    return {
        "processor": " ".join([here.name, *_numbers()]),
        "instruction sets": list(here.instruction_sets),
        "torch": torch.__version__,
        "compiler": _compiler(),
        "kernels": [kernel_set(precision) for precision in ("float32", "bfloat16")],
    }


def _numbers():
    """Family, model and stepping: a cloud may hide the name."""
    text = CPUINFO.read_text() if CPUINFO.is_file() else ""
    lines = [line.split(":") for line in text.partition("\n\n")[0].splitlines()]
    entry = {line[0].strip(): line[-1].strip() for line in lines}
    return [entry.get(key, "?") for key in ("cpu family", "model", "stepping")]


def _compiler():
    try:
        said = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.partition("\n")[0]


def measure(layers, precision, optimizer, by, path):
    """The run's losses, as `metrics.csv` writes them, and the SHA-256 of its weights."""
    config = toy.config(STEPS, optimizer=OPTIMIZERS[optimizer](learning_rate=0.01))
    experts = 4 if layers == "sparse" else 1
    model = replace(config.model, d_model=32, d_ff=64, num_experts=experts, logit_cap=30.0)
    config = replace(config, model=model, training=replace(config.training, log_every=1))
    resources = replace(toy.RESOURCES, precision=precision)
    folder = toy.folder(path)
    with nullcontext() if by == "kernels" else kernels.switched_off():
        result = toy.train(config, toy.prepared(), folder, resources)
    digest = hashlib.sha256()
    for name, weight in result.model.state_dict().items():
        digest.update(name.encode() + weight.numpy().tobytes())
    with folder.metrics_file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    losses = {column: " ".join(row[column] for row in rows if row[column]) for column in COLUMNS}
    return {**losses, "weights": digest.hexdigest()}


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = {" ".join(run): measure(*run, Path(folder, "-".join(run))) for run in RUNS}
    RECORD.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
