"""What a run may use is resolved once, and without torch."""

import gc
import subprocess
import sys
import weakref
from dataclasses import replace

import pytest

from glam.config import HardwareConfig, ModelConfig, RunConfig, TrainingConfig
from glam.errors import UserError
from glam.machine import resources
from glam.machine.resources import resolve


def test_a_run_alone_takes_threads_that_one_of_many_leaves_to_the_others(monkeypatch):
    monkeypatch.setattr(resources, "num_cores", lambda: 8)
    assert resolve(RunConfig()).threads == 2
    assert resolve(RunConfig(), one_of_many=True).threads == 1


def test_a_smaller_model_gets_one_thread_and_a_large_one_every_core(monkeypatch):
    monkeypatch.setattr(resources, "num_cores", lambda: 8)
    small = replace(RunConfig(), model=ModelConfig(d_model=16, d_ff=64))
    assert resolve(small).threads == 1
    large = replace(
        RunConfig(),
        model=ModelConfig(d_model=1024, d_ff=4096, num_heads=16),
        training=TrainingConfig(batch_size=64, sequence_length=512),
    )
    assert resolve(large).threads == resolve(large, one_of_many=True).threads == 8


def test_what_is_typed_wins_over_what_is_found():
    hardware = HardwareConfig(device="cpu", threads=3, precision="float32", memory_gb=1.5)
    found = resolve(replace(RunConfig(), hardware=hardware))
    assert (found.threads, found.precision, found.memory_bytes) == (3, "float32", 1_500_000_000)


def test_more_threads_than_a_machine_can_start_are_refused():
    with pytest.raises(UserError, match=r"hardware.threads=100000 is too many"):
        resolve(replace(RunConfig(), hardware=HardwareConfig(threads=100000)))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(resources, "_has_cuda", lambda: False)
    with pytest.raises(UserError, match=r"hardware=gpu .* try hardware=cpu"):
        resolve(replace(RunConfig(), hardware=HardwareConfig(device="gpu")))


def test_a_gpu_is_used_where_there_is_one(monkeypatch):
    monkeypatch.setattr(resources, "_has_cuda", lambda: True)
    monkeypatch.setattr(resources, "_memory_of", lambda device: 80 << 30)
    found = resolve(RunConfig())
    assert (found.device, found.precision) == ("cuda", "bfloat16")


def test_a_run_for_another_machine_is_resolved_by_what_the_line_says(monkeypatch):
    monkeypatch.setattr(resources, "_has_cuda", lambda: False)
    gpu = HardwareConfig(device="gpu", memory_gb=80, threads=64)
    found = resolve(replace(RunConfig(), hardware=gpu), remote=True)
    assert (found.device, found.precision, found.threads) == ("cuda", "bfloat16", 64)
    assert found.memory_bytes == 80_000_000_000
    unsaid = replace(RunConfig(), hardware=HardwareConfig(device="gpu"))
    with pytest.raises(UserError, match=r"hardware.memory_gb is not set"):
        resolve(unsaid, remote=True)


@pytest.mark.parametrize(("limit", "cores"), [("150000 100000", 1), ("max 100000", 4)])
def test_a_container_limit_counts_as_the_machine(monkeypatch, limit, cores):
    monkeypatch.setattr(resources.psutil, "cpu_count", lambda logical: 4)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(resources, "_cgroup", lambda _: limit.split())
    assert resources.num_cores() == cores


def test_nothing_heavy_is_imported_before_a_task_starts():
    code = (
        "import sys, glam.cli.app, glam.composition.overrides, glam.studies.grid;"
        "import glam.studies.launchers.isolated, glam.tasks.run_task, glam.machine.processes;"
        "heavy = {'torch', 'lightning', 'wandb', 'datasets', 'sklearn', 'matplotlib', 'pandas'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept_for_the_next_step():
    script = """
import resource, sys
from glam.machine.resources import tune_malloc
if sys.argv[1] == "keep":
    tune_malloc()
def step():
    pieces = [bytearray(2**20) for _ in range(50)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""
    kept, returned = (
        int(subprocess.check_output([sys.executable, "-c", script, how])) for how in ("keep", "not")
    )
    assert kept < 100 < returned


def test_a_settled_loop_still_has_its_own_cycles_collected_and_leaves_nothing_frozen():
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    with resources.frozen_gc():
        assert gc.get_freeze_count()
        seen = weakref.ref(Cycle())
        gc.collect()
        assert seen() is None
    assert not gc.get_freeze_count()
