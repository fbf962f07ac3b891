"""A grid of the real command line, whose runs take a second."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# All is real but the training: a chain of numbers, each made from the last that was saved.
RUN = f"""
import json, os, signal, sys, time, types
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
sys.modules["glam.training"] = types.ModuleType("glam.training")  # not called, slow to import
import glam.studies.jobs, glam.machine.resources, glam.tasks.train
from glam.cli import main
from glam.runs.folder import write_atomically

def times_started(run):
    return len((run.path / "starts").read_text().splitlines())

def chain(config, run, resources, prepared, energy):
    run.write_config(config)
    with (run.path / "starts").open("a") as starts:
        starts.write("started\\n")
    saved = run.checkpoints / "saved.json"
    run.checkpoints.mkdir(exist_ok=True)
    step, x = json.loads(saved.read_text()) if saved.exists() else (0, config.seed)
    while step < 12:
        if step == 6 and config.seed == 17 and not OTHER:
            raise RuntimeError("the power is cut")
        if step == 6 and config.seed == 13:  # the process that started this one is lost
            os.kill(os.getppid(), signal.SIGKILL)
        if step == 6 and config.seed == 19 and times_started(run) == 1:
            os.kill(os.getppid(), signal.SIGKILL)
        if step == 6 and (config.model.num_experts, config.seed) == (4, 3):
            raise RuntimeError("poisoned")
        x = (x * 6364136223846793005 + config.model.num_experts) % 2**64
        step += 1
        write_atomically(saved, json.dumps([step, x]))
        time.sleep(5 if config.seed == 23 and times_started(run) == 1 else 0.05)
    loss = {{"mean": x / 2**64, "notes": x / 2**65}}
    found = {{"status": "done", "id": run.id, "seed": config.seed, "loss": loss, "tokens": step}}
    found["machine"] = {{"processor": "EPYC" if OTHER else "Xeon", "instruction_sets": ["avx2"],
                         "kernels": "elementwise"}}
    run.write_json("summary.json", {{**found, "train_seconds": time.monotonic()}})
    run.report_file.touch()

OTHER = "ANOTHER_MACHINE" in os.environ
glam.machine.resources._bfloat16_is_fast = lambda device: OTHER  # which the precision is chosen by
glam.studies.jobs.ROOT = Path(__file__).parent
glam.tasks.train.prepared_text = lambda config, tokenizer: None
glam.tasks.train.prepare_suite = lambda config, prepared: None
glam.tasks.train.overlap_of_text = lambda config, prepared: None
glam.tasks.train._train_to_the_end = chain
sys.exit(main(sys.argv[1:]))
"""
OF_THE_MACHINE = ("train_seconds", "tokens_per_second", "joules", "processor")


@pytest.fixture
def line(tmp_path) -> Callable[..., list[str]]:
    """The words of a grid that keeps its runs in `runs`."""
    (tmp_path / "run.py").write_text(RUN)
    cache = f"cache_dir={tmp_path / 'cache'}"
    return lambda runs, *words: [
        *(sys.executable, str(tmp_path / "run.py"), "-m", *words),
        *("logger=csv", cache, f"runs_dir={runs}"),
    ]


@pytest.fixture
def table() -> Callable[[Path], list[dict[str, str]]]:
    """study.csv, without what the clock says and where it was."""

    def read(runs: Path) -> list[dict[str, str]]:
        [file] = runs.glob("studies/*/study.csv")
        with file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        return [{k: v for k, v in row.items() if not k.startswith(OF_THE_MACHINE)} for row in rows]

    return read
