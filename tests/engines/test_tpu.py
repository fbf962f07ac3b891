"""What can be known of TorchTPU's processes without a TPU: how they are started, and that none
comes to its first operation."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from glam.config import HardwareConfig
from glam.engines import launch, tpu
from glam.engines.fsdp import accelerator
from glam.errors import JobFailedError, UserError
from glam.machine.resources import Resources

RESOURCES = Resources(threads=1, precision="bfloat16", device="tpu", memory_bytes=10**9, cores=1)
HARDWARE = HardwareConfig(
    name="tpu_v6e_4",
    device="tpu",
    runtime="torch_tpu",
    mesh={"expert": 4},
    rules={"batch": "expert"},
    memory_gb=1,
    peak_tflops=1,
    share_of_peak=0.1,
)


def backend(load):
    """torch_tpu as torch finds it: an entry point."""
    return lambda group, name: [SimpleNamespace(load=lambda: load)]


def test_a_backend_that_brings_no_device_is_refused_before_the_first_operation(monkeypatch, capfd):
    def load():
        print("Initializing TPU distributed runtime", file=sys.stderr)

    monkeypatch.setattr(tpu, "entry_points", backend(load))
    with pytest.raises(UserError, match="torch_tpu finds no TPU in this machine"):
        tpu.load()
    assert capfd.readouterr().err == ""


def test_every_process_has_its_own_chip():
    found = accelerator("tpu")
    assert found.name() == "tpu"
    with pytest.raises(RuntimeError, match="tpu"):  # torch here knows no such device
        found.get_parallel_devices(4)


class StartedError(Exception):
    pass


def test_the_environment_is_made_before_processes_start(monkeypatch):
    """TorchTPU's own function decides it, in the process that starts the others."""
    asked = []

    def set_tpu_launch_env(*, nproc_per_node):
        asked.append(nproc_per_node)
        monkeypatch.setenv("TORCH_TPU_TOPOLOGY", "2,2,1")

    module = SimpleNamespace(distributed=SimpleNamespace(set_tpu_launch_env=set_tpu_launch_env))
    monkeypatch.setattr(tpu, "load", lambda: None)
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    monkeypatch.setattr(launch, "_watch_this_process", lambda: None)

    def elastic_launch(config, entrypoint):
        assert os.environ["TORCH_TPU_TOPOLOGY"] == "2,2,1"
        assert (config.nproc_per_node, entrypoint) == (4, sys.executable)
        raise StartedError

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", elastic_launch)
    monkeypatch.setattr(launch.logging, "disable", lambda level: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(StartedError):
        launch.launch(HARDWARE, RESOURCES)
    assert asked == [4]


def test_a_process_that_its_chip_aborts_is_named(monkeypatch):
    def elastic_launch(config, entrypoint):
        def run(*arguments):
            raise ChildFailedError("run.py", {2: ProcessFailure(2, 7, -signal.SIGABRT, "none")})

        return run

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", elastic_launch)
    monkeypatch.setattr(tpu, "set_launch_environment", lambda processes: None)
    monkeypatch.setattr(launch, "_watch_this_process", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(JobFailedError, match="hardware=tpu_v6e_4: process 2 was aborted"):
        launch.launch(HARDWARE, RESOURCES)
    assert logging.root.manager.disable == logging.NOTSET


REAL = """
from glam.engines import tpu
from glam.errors import UserError
try:
    tpu.load()
except UserError as refused:
    print(refused)
"""


@pytest.mark.skipif(importlib.util.find_spec("torch_tpu") is None, reason="no torch_tpu (make tpu)")
def test_torch_tpu_itself_is_refused_here_in_a_line():
    """In a process of its own, which an operation without a chip would end."""
    ended = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.count("\n")) == (0, 1), ended.stderr
    assert ended.stdout.startswith("torch_tpu finds no TPU in this machine")
