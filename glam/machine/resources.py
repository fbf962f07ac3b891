"""Cores, memory, device and precision that a run gets on this machine, found without torch: a
finished run is skipped in milliseconds."""

import ctypes
import functools
import gc
import importlib
import importlib.metadata
import os
import platform
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import psutil

from glam.config import DISPATCHERS, HardwareConfig, RunConfig
from glam.config.layout import check_divides
from glam.errors import UserError
from glam.machine import processes
from glam.machine.compiled import Compiled, what_is_compiled
from glam.machine.float8 import check_float8
from glam.machine.processor import first_gpu, nvml_session, processor
from glam.machine.tpu import check_tpu, chips

# Of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MAPPED = 2**25  # bytes from which malloc maps a block of its own: the most that glibc takes

Precision = Literal["bfloat16", "float32"]
Device = Literal["cpu", "cuda", "mps", "xla", "tpu"]

# FLOPs of a step for each thread that a run takes. A second thread makes a step of glam_tiny (2.8
# GFLOP) 1.4 times as fast (experiments/benchmarks/threads.csv): worth having for a run alone; one
# of many leaves its cores to the others, which gains 2.
FLOPS_WORTH_A_THREAD = {"alone": 1.4e9, "one of many": 20e9}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resolved hardware of one job."""

    threads: int
    precision: Precision
    device: Device
    memory_bytes: int
    cores: int
    compiled: Compiled = "off"  # what torch.compile makes a program of


def resolve(config: RunConfig, *, one_of_many: bool = False, remote: bool = False) -> Resources:
    """The threads, precision, device and memory of a run: as configured, or as this machine has
    them. `one_of_many`: others train beside it; `remote`: on another machine. Raises UserError for
    a device that this machine does not have, and for a remote one whose memory is not configured.
    """
    hardware = config.hardware
    if hardware.engine == "xla":
        return _of_mesh(config, remote)
    if hardware.is_cluster:
        check_cluster(config, remote=remote)
    elif processes.count() > 1:
        raise UserError(
            f"hardware={hardware.name} is one device and torchrun started {processes.count()} "
            f"processes; set hardware=cpu_node or hardware=gpu_node, or leave torchrun out (where "
            f"its variables are left over: unset TORCHELASTIC_RUN_ID)"
        )
    device = _device(hardware.device, remote)
    cores = num_cores()
    if hardware.threads is not None and hardware.threads > 4 * cores and not remote:
        raise UserError(
            f"hardware.threads={hardware.threads} is too many for {cores} cores; "
            f"try hardware.threads={cores}, or leave it out"
        )
    work = 3 * config.flops_per_token * config.training.tokens_per_step
    worth = FLOPS_WORTH_A_THREAD["one of many" if one_of_many else "alone"]
    automatic = max(1, min(cores, int(work // worth)))
    if hardware.is_cluster:
        automatic = 1  # for every mesh, so that the run id is the same
    precision = hardware.precision
    if remote and device == "cuda" and not _has_cuda() and hardware.memory_gb is None:
        raise UserError(
            "hardware.memory_gb is not set, and a machine without a GPU cannot detect it; set it "
            "to the memory of the GPUs that the runs are sent to"
        )
    if precision == "auto":
        precision = "bfloat16" if _bfloat16_is_fast(device) else "float32"
    if config.training.float8_experts:
        check_float8(config, device)
    return Resources(
        threads=hardware.threads or automatic,
        precision=cast(Precision, precision),
        device=device,
        memory_bytes=_memory(config, device),
        cores=cores,
        compiled=what_is_compiled(config, device, precision),
    )


def _memory(config: RunConfig, device: Device) -> int:
    """Bytes that one process may use."""
    hardware = config.hardware
    if hardware.is_cluster and device == "cpu":
        return memory_bytes() // hardware.devices
    return int(hardware.memory_gb * 1e9) if hardware.memory_gb else _memory_of(device)


def check_cluster(config: RunConfig, *, remote: bool = False) -> None:
    """Raises UserError for a mesh, rules or settings that torch's distributed engine does not
    support, and for a number of processes or GPUs other than the mesh's."""
    hardware, name = config.hardware, config.hardware.name
    found = processes.count()
    if hardware.device == "tpu" and not remote:
        check_tpu(hardware)
    here = not processes.under_torchrun() and not remote
    if hardware.device == "gpu" and here and _num_gpus() < hardware.devices:
        raise UserError(
            f"hardware={name} is of {hardware.devices} GPUs and this machine has {_num_gpus()} "
            f"that the installed torch can use; start it on every node with torchrun, or try "
            f"hardware=cpu_node, processes of this CPU"
        )
    if processes.under_torchrun() and found != hardware.devices:
        raise UserError(
            f"hardware={name} is of {hardware.devices} devices and torchrun started {found} "
            f"processes; type 'hardware.mesh={{{next(iter(hardware.mesh))}:{found}}}', or start "
            f"as many"
        )
    if hardware.device not in ("gpu", "tpu") and not remote and hardware.devices > 4 * num_cores():
        raise UserError(
            f"hardware={name} is of {hardware.devices} processes, too many for {num_cores()} "
            f"cores; set hardware.mesh to one axis of at most {4 * num_cores()}"
        )
    _check_axes(hardware)
    if hardware.scan:
        raise UserError(
            f"hardware.scan=true is a loop in one program for all chips; processes of torch, as "
            f"hardware={name} has, take layer after layer: set hardware.scan=false"
        )
    if config.training.update_in_backward:
        raise UserError(
            f"training.update_in_backward=true is for one device, and hardware={name} is of "
            f"{hardware.devices}; leave it out"
        )
    if not config.model_as_built.dispatcher_config.across_processes:
        able = DISPATCHERS.where(lambda kind: kind.across_processes)
        raise UserError(
            f"model.dispatcher={config.model.dispatcher} works on the tokens of one process; with "
            f"hardware={name} take model.dispatcher={' or '.join(able)}"
        )
    check_divides(config)


SECOND_AXIS = ("activation", "heads", "hidden", "vocab")  # what a second axis may split


def _check_axes(hardware: HardwareConfig) -> None:
    """Raises UserError for a mesh or rules that processes of torch do not support."""
    batch = hardware.rules.get("batch")
    others = [axis for axis, size in hardware.mesh.items() if size > 1 and axis != batch]
    line = (
        f"hardware={hardware.name} has hardware.mesh={hardware.mesh} and hardware.rules="
        f"{hardware.rules}: "
    )
    if batch is None or len(others) > 1:
        raise UserError(
            f"{line}processes of torch take one axis that splits batch, and at most one more; set "
            f"hardware.rules.batch to an axis of the mesh, and the other axes to 1"
        )
    for rule, axis in hardware.split_by.items():
        is_second = axis != batch
        wrong = (is_second and rule not in SECOND_AXIS) or (not is_second and rule == "activation")
        if wrong and hardware.mesh[axis] > 1:
            of = ", ".join(SECOND_AXIS) if is_second else "all but activation"
            raise UserError(
                f"{line}{rule} cannot be split along {axis}, which is for {of}; set "
                f"hardware.rules.{rule}=null"
            )


def _of_mesh(config: RunConfig, remote: bool) -> Resources:
    """Resources of one device of an XLA mesh. Raises UserError as `resolve` does."""
    hardware = config.hardware
    virtual = hardware.device == "xla_cpu"
    if not virtual and not remote and not _has_tpu():
        raise UserError(
            f"hardware={hardware.name} describes {hardware.devices} chips and this machine has no "
            f"TPU: task=plan counts with them; try hardware=xla_cpu, virtual devices of this CPU"
        )
    if config.training.update_in_backward:
        raise UserError(
            f"training.update_in_backward=true is for one device; with hardware={hardware.name} "
            f"XLA's compiler decides when a gradient goes: leave it out"
        )
    for name in ("threads", "max_jobs"):
        if virtual and getattr(hardware, name) not in (None, 1):
            raise UserError(
                f"hardware.{name}={getattr(hardware, name)}: XLA shares the cores among its "
                f"devices by itself; leave it out"
            )
    check_divides(config)
    return Resources(
        threads=1,
        precision=cast(Precision, hardware.precision.replace("auto", "bfloat16")),
        device="xla",
        memory_bytes=memory_bytes() // hardware.devices
        if virtual
        else int((hardware.memory_gb or 0) * 1e9),
        cores=num_cores(),
    )


def pin_threads(resources: Resources) -> None:
    """Sets OpenMP's environment. Call it before torch is imported, which reads it once. Waiting
    threads sleep instead of spinning: that costs little and leaves the cores to other jobs. On
    Intel's processors MKL is asked for sums that do not depend on the number of threads, whose
    cost was within what a busy machine shows; on others that mode has slower kernels."""
    os.environ["OMP_NUM_THREADS"] = str(resources.threads)
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    if "Intel" in processor().name:
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


@contextmanager
def frozen_gc() -> Generator[None]:
    """Excludes every object that exists now from Python's garbage collection: inside a training
    loop, traversing the loaded modules takes 2 to 3 % of a small step."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def tune_malloc() -> None:
    """Makes glibc keep freed memory for the next step. By default it returns the top of its heap to
    the system, and each step of a model with many experts faults it in again, page by page. Does
    nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**30)
        mallopt(M_MMAP_THRESHOLD, MAPPED)


def num_cores() -> int:
    """Physical cores this process may use: affinity and container limits included."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    physical = psutil.cpu_count(logical=False) or usable or 1
    quota = _cgroup("cpu.max")
    if quota and quota[0] != "max":
        physical = min(physical, max(1, int(quota[0]) // int(quota[1])))
    return max(1, min(usable or 1, physical))


def _memory_of(device: Device) -> int:
    """Bytes of the device that holds the model: the first GPU's, or the machine's."""
    if device != "cuda":
        return memory_bytes()
    with nvml_session() as nvml:
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(0)).total)


def device_name(device: Device) -> str:
    """The maker's name of the first GPU, of the processor where that computes."""
    if device != "cuda":
        is_tpu = device == "tpu" or (device == "xla" and _has_tpu())
        return "TPU" if is_tpu else processor().name
    return first_gpu().name


def memory_bytes() -> int:
    """Bytes of memory of the machine or of its container, whichever is less."""
    total = psutil.virtual_memory().total
    limit = _cgroup("memory.max")
    return min(total, int(limit[0])) if limit and limit[0] != "max" else total


def _cgroup(name: str) -> list[str] | None:
    try:
        return Path("/sys/fs/cgroup", name).read_text().split()
    except OSError:
        return None


def _device(name: str, remote: bool) -> Device:
    if name == "tpu":
        return "tpu"
    if remote and name == "gpu":
        return "cuda"
    found = {"gpu": _has_cuda(), "mps": platform.system() == "Darwin" and _is_arm()}
    if name in found and not found[name]:
        raise UserError(
            f"hardware={name} but this machine has none that the installed torch can use; "
            f"try hardware=cpu or hardware=auto"
        )
    if name == "gpu" or (name == "auto" and found["gpu"]):
        return "cuda"
    return "mps" if name == "mps" or (name == "auto" and found["mps"]) else "cpu"


def is_cpu(name: str) -> bool:
    """Whether `hardware.device` means the CPU; `auto` is resolved on this machine."""
    return name in ("cpu", "xla_cpu") or (name == "auto" and _device(name, False) == "cpu")


def is_gpu(name: str) -> bool:
    """Whether `hardware.device` means a GPU of torch's `cuda`; `auto` is resolved here."""
    return name == "gpu" or (name == "auto" and _device(name, False) == "cuda")


def _num_gpus() -> int:
    if not _has_cuda():
        return 0
    with nvml_session() as nvml:
        return int(nvml.nvmlDeviceGetCount())


@functools.cache  # a grid asks for every cell
def _has_cuda() -> bool:
    try:
        built_for_cpu = importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return Path("/dev/nvidiactl").exists() and not built_for_cpu


def _has_tpu() -> bool:
    return bool(chips())


def _is_arm() -> bool:
    return platform.machine() in ("arm64", "aarch64")


def _bfloat16_is_fast(device: Device) -> bool:
    """Whether the device multiplies bfloat16 by itself: a CPU without such instructions emulates
    them."""
    if device != "cpu":
        return device in ("cuda", "tpu")
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor().instruction_sets)


def emulation(resources: Resources) -> str | None:
    """A line about bfloat16 on a CPU that has no instructions for it; None where there is nothing
    to say. The factors are of `python -m experiments.benchmarks avx2`."""
    if (resources.device, resources.precision) != ("cpu", "bfloat16") or _bfloat16_is_fast("cpu"):
        return None
    return (
        "hardware.precision=bfloat16: this processor has no instructions for it, so it is emulated "
        "and a step takes 10 to 18 times as long; hardware.precision=float32 is faster"
    )
