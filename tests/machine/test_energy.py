"""Joules: registers that wrap, counters that may not be read, and models that say they are."""

import subprocess
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glam.config import HardwareConfig
from glam.machine import energy
from glam.machine.energy import Counter, EnergyMeter, Share, Wrapping, nvml, rapl
from glam.machine.resources import Resources


def resources(device="cpu") -> Resources:
    return Resources(threads=1, precision="float32", device=device, memory_bytes=10**9, cores=2)


def zone(powercap, number: str, name: str, joules: int, limit: int = 262_143_328_850):
    folder = powercap / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{joules * 10**6}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")
    return folder


@pytest.fixture
def no_counters(monkeypatch, tmp_path):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    monkeypatch.setattr(energy, "nvml", lambda: None)


@given(
    steps=st.lists(st.integers(0, 999), min_size=1),
    start=st.integers(0, 999),
)
def test_a_register_that_wraps_counts_on(steps, start):
    position = start
    register = Wrapping(lambda: position % 1000, limit=1000)
    for step in steps:
        position += step
        assert register.total() == position - start


def test_jobs_side_by_side_share_the_package_between_them():
    readings = {"package": 0.0, "own": 0.0, "busy": 0.0}
    share = Share(*(lambda key=key: readings[key] for key in readings))
    readings.update(package=100.0, own=3.0, busy=4.0)
    assert share.total() == 75.0
    readings.update(package=200.0)  # neither clock has moved: these wait
    assert share.total() == 75.0
    readings.update(package=300.0, own=3.5, busy=5.0)
    assert share.total() == 75.0 + 100.0


def test_packages_are_counted_and_their_parts_are_not_counted_again(tmp_path, monkeypatch):
    first, second = zone(tmp_path, "0", "package-0", 5), zone(tmp_path, "1", "package-1", 7)
    core = zone(tmp_path, "0:0", "core", 3)
    zone(tmp_path, "2", "psys", 100)
    clock = iter(range(100))
    monkeypatch.setattr(energy.time, "process_time", lambda: float(next(clock)))
    busy = iter(range(100))
    monkeypatch.setattr(energy, "_busy_seconds", lambda: float(next(busy)))
    (counter,) = rapl(tmp_path) or []
    for folder, joules in ((first, 15), (second, 27), (core, 1000)):
        (folder / "energy_uj").write_text(str(joules * 10**6))
    assert counter.read() == pytest.approx(30)
    assert counter.source == "RAPL, 2 packages, by share of busy time"


def test_without_leave_to_read_the_register_it_is_modelled(tmp_path, monkeypatch):
    zone(tmp_path, "0", "package-0", 5)

    def forbidden(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(energy.Path, "read_text", forbidden)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    assert rapl(tmp_path) is None
    assert EnergyMeter.open(HardwareConfig(), resources()).source.startswith("modelled: CPU time")


def test_a_machine_without_powercap_has_no_rapl(tmp_path):
    assert rapl(tmp_path / "absent") is None


def test_a_counter_is_said_to_be_measured(tmp_path, monkeypatch):
    zone(tmp_path, "0", "package-0", 5)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    meter = EnergyMeter.open(HardwareConfig(), resources())
    assert meter.source == "measured: RAPL, 1 package, by share of busy time"


def test_watts_that_are_stated_win_over_a_counter(tmp_path, monkeypatch):
    zone(tmp_path, "0", "package-0", 5)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    now = [100.0]
    monkeypatch.setattr(energy.time, "monotonic", lambda: now[0])
    meter = EnergyMeter.open(HardwareConfig(watts=65), resources())
    meter.start()
    now[0] += 10
    assert meter.joules() == pytest.approx(650)
    assert meter.source == "modelled: hardware.watts=65 x wall time"


@pytest.mark.parametrize(("device", "charged"), [("xla_cpu", 8), ("cpu", 1)])
def test_stated_watts_are_of_each_device_that_a_process_drives(device, charged, monkeypatch):
    """One process drives all devices of XLA; of a cluster, each process its own."""
    now = [100.0]
    monkeypatch.setattr(energy.time, "monotonic", lambda: now[0])
    described = {"memory_gb": 1.0, "peak_tflops": 1.0, "share_of_peak": 0.5}
    hardware = HardwareConfig(device=device, num_devices=8, watts=65, **described)
    meter = EnergyMeter.open(hardware, resources())
    meter.start()
    now[0] += 10
    assert meter.joules() == pytest.approx(650 * charged)


@pytest.mark.usefixtures("no_counters")
def test_a_core_is_charged_for_the_time_it_works(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(energy.time, "process_time", lambda: now[0])
    meter = EnergyMeter.open(HardwareConfig(), resources())
    meter.start()
    now[0] += 10
    assert meter.joules() == pytest.approx(60)
    assert "6 W per core" in meter.source


@pytest.mark.usefixtures("no_counters")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_without_a_counter_is_modelled_and_says_so(device):
    source = EnergyMeter.open(HardwareConfig(), resources(device)).source
    assert source.startswith(f"modelled: 1 {device} x ")


def test_joules_are_counted_from_the_start():
    reading = [5.0]
    meter = EnergyMeter("measured", [Counter("a", lambda: reading[0]), Counter("b", lambda: 1.0)])
    meter.start()
    reading[0] = 8.0
    assert meter.joules() == 3.0
    assert meter.source == "measured: a + b"


class FakeNvml(types.ModuleType):
    class NVMLError(Exception):
        pass

    def __init__(self, *, works: bool = True) -> None:
        super().__init__("pynvml")
        self.works, self.millijoules, self.asked = works, 1000, None

    def nvmlInit(self):  # noqa: N802
        if not self.works:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        self.asked = index
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        self.asked = uuid
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return self.millijoules


@pytest.mark.parametrize(
    ("visible", "asked"), [(None, 0), ("3,1", 3), ("GPU-ab12", "GPU-ab12"), ("", 0)]
)
def test_the_gpu_that_the_process_sees_first_is_read(monkeypatch, visible, asked):
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    (counter,) = nvml() or []
    assert fake.asked == asked
    fake.millijoules = 4000
    assert counter.read() == 4.0


def test_a_gpu_and_its_processors_are_added_up(tmp_path, monkeypatch):
    zone(tmp_path, "0", "package-0", 5)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    source = EnergyMeter.open(HardwareConfig(), resources("cuda")).source
    assert source == "measured: NVML, 1 GPU + RAPL, 1 package, by share of busy time"


def test_without_a_driver_there_is_no_nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(works=False))
    assert nvml() is None


def test_energy_and_preflight_load_without_torch():
    loaded = "import sys, glam.machine.energy, glam.planning.preflight; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", loaded], text=True).split()
    assert not {"torch", "pynvml", "hydra"} & set(modules)
