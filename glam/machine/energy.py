"""Energy of a run in joules: read from a hardware counter where there is one, else modelled.

Counters: NVML through NVIDIA's own bindings, and Linux powercap (RAPL), read directly: it is two
small files, while the libraries around it (zeus 0.16, codecarbon 3.3) start a polling process or
thread, which would disturb the timing, or are no longer kept (pyRAPL, pyJoules).
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil

from glam.config import HardwareConfig
from glam.machine.processor import start_nvml
from glam.machine.resources import Resources

POWERCAP = Path("/sys/class/powercap")

# A busy core's share of a server's package: 350 W over 56 or 64 cores (Xeon 8480+, 8592+) is
# 5.5 to 6.3 W, 360 W over 96 (EPYC 9654) 3.8 W. Memory, board and cooling are left out.
WATTS_PER_CORE = 6.0
# At full load, by the maker: A100 SXM board; the whole of a Mac mini (M2).
WATTS_PER_DEVICE = {"cuda": 400.0, "mps": 50.0}

Joules = Callable[[], float]  # a reading that only grows


class Counter(NamedTuple):
    """A cumulative reading in joules, and its source in words."""

    source: str
    read: Joules


class EnergyMeter:
    """Joules since `start`. Read it at least once a minute: a RAPL register wraps round after a
    few minutes at full power, and two rounds look like one."""

    def __init__(self, kind: str, counters: Iterable[Counter]) -> None:
        self._counters = tuple(counters)
        self._base = 0.0
        self.source = f"{kind}: {' + '.join(counter.source for counter in self._counters)}"

    @classmethod
    def open(cls, hardware: HardwareConfig, resources: Resources) -> Self:
        """The most accurate source of this machine. `hardware.watts`, where set, replaces it."""
        if hardware.watts is not None:
            # Each process of a cluster counts its own device.
            devices = 1 if hardware.is_cluster else hardware.devices
            times = f" x {devices}" if devices > 1 else ""
            stated = f"hardware.watts={hardware.watts:g}{times} x wall time"
            return cls("modelled", [Counter(stated, _constant(devices * hardware.watts))])
        if resources.device == "cpu":
            measured = rapl(POWERCAP)
        else:
            # The processor beside a device counts too, but never instead of it.
            device = nvml() if resources.device == "cuda" else None
            measured = device and [*device, *(rapl(POWERCAP) or [])]
        if measured:
            return cls("measured", measured)
        return cls("modelled", [_model(resources)])

    def start(self) -> None:
        self._base = self._total()

    def joules(self) -> float:
        return self._total() - self._base

    def _total(self) -> float:
        return sum(counter.read() for counter in self._counters)


def _constant(watts: float) -> Joules:
    return lambda: watts * time.monotonic()


def _model(resources: Resources) -> Counter:
    if (watts := WATTS_PER_DEVICE.get(resources.device)) is not None:
        return Counter(f"1 {resources.device} x {watts:g} W x wall time", _constant(watts))
    stated = f"CPU time x {WATTS_PER_CORE:g} W per core (package TDP of a server over its cores)"
    return Counter(stated, lambda: WATTS_PER_CORE * time.process_time())


class Wrapping:
    """A register that starts again from 0 after `limit`, as a total that only grows."""

    def __init__(self, register: Callable[[], int], limit: int) -> None:
        self._register, self._limit = register, limit
        self._last, self._total = register(), 0

    def total(self) -> int:
        now = self._register()
        self._total += now - self._last if now >= self._last else self._limit - self._last + now
        self._last = now
        return self._total


class Share:
    """This process's share of the energy of all processors, by its share of their busy time. The
    jobs of a grid read the same register, and none may count the others."""

    def __init__(self, package: Joules, own_seconds: Joules, busy_seconds: Joules) -> None:
        self._readings = (package, own_seconds, busy_seconds)
        self._last = [reading() for reading in self._readings]
        self._total = 0.0

    def total(self) -> float:
        now = [reading() for reading in self._readings]
        joules, own, busy = (new - old for new, old in zip(now, self._last, strict=True))
        # The two clocks tick differently (nanoseconds, hundredths): wait until both have moved.
        if busy > 0:
            self._total += joules * min(1.0, max(0.0, own / busy))
            self._last = now
        return self._total


def rapl(powercap: Path) -> list[Counter] | None:
    """One counter for all processor packages; None where there is none, or where reading it is not
    permitted (Linux restricts it to root since CVE-2020-8694)."""
    try:
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _is_package(zone)]
        packages = [_package(zone) for zone in zones]
    except (OSError, ValueError):
        return None
    if not packages:
        return None

    def joules() -> float:
        return sum(package.total() for package in packages) / 1e6

    share = Share(joules, time.process_time, _busy_seconds)
    plural = "s" if len(packages) > 1 else ""
    return [Counter(f"RAPL, {len(packages)} package{plural}, by share of busy time", share.total)]


def _is_package(zone: Path) -> bool:
    return (zone / "name").read_text().startswith("package")


def _package(zone: Path) -> Wrapping:
    limit = int((zone / "max_energy_range_uj").read_text())
    return Wrapping(lambda: int((zone / "energy_uj").read_text()), limit)


def _busy_seconds() -> float:
    """Core-seconds that all of the machine's processors have worked since it booted."""
    times = psutil.cpu_times()
    return times.user + times.system


def nvml() -> list[Counter] | None:
    """The energy counter of the GPU that this process sees first; None without NVML or on a GPU
    older than Volta."""
    try:
        library = start_nvml()  # to the end of the process
        handle = _visible_gpu(library)
        library.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception as error:  # NVML's own class of errors comes with it
        if isinstance(error, ImportError) or type(error).__name__.startswith("NVMLError"):
            return None
        raise
    # Millijoules since the driver was loaded.
    read: Joules = lambda: library.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3  # noqa: E731
    return [Counter("NVML, 1 GPU", read)]


def _visible_gpu(library: Any) -> Any:
    here = int(os.environ.get("LOCAL_RANK", "0"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    first = visible[here].strip() if here < len(visible) and visible[0] else str(here)
    if first.isdecimal():
        return library.nvmlDeviceGetHandleByIndex(int(first))
    return library.nvmlDeviceGetHandleByUUID(first)
