"""Chips of a machine that has them, made of files; and what is refused before one is touched."""

import os
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir

from glam.composition.overrides import CONF
from glam.composition.schema import register, to_run_config
from glam.config import HardwareConfig
from glam.errors import UserError
from glam.machine import tpu
from glam.machine.resources import resolve


def composed(*overrides):
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_run_config(compose("config", list(overrides)))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that puts chips into the machine, by the numbers of their VFIO groups."""
    monkeypatch.setattr(tpu, "SYS", tmp_path / "sys")
    monkeypatch.setattr(tpu, "DEV", tmp_path / "dev")
    (tmp_path / "dev" / "vfio").mkdir(parents=True)

    def insert(*groups, vendor="0x1ae0"):
        for group in groups:
            device = tmp_path / "sys" / "bus" / "pci" / "devices" / f"0000:00:{group:02}.0"
            device.mkdir(parents=True)
            (device / "vendor").write_text(f"{vendor}\n")
            (device / "iommu_group").symlink_to(tmp_path / "sys" / "groups" / str(group))
            (tmp_path / "dev" / "vfio" / str(group)).write_text("")

    return insert


def hardware(chips=2):
    return HardwareConfig(
        name="tpu_here",
        device="tpu",
        runtime="torch_tpu",
        mesh={"expert": chips},
        rules={"batch": "expert", "experts": "expert"},
        memory_gb=1,
        peak_tflops=1,
        share_of_peak=0.1,
    )


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(tpu, "check_torch_tpu", lambda what: None)
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_chips_are_the_devices_of_googles_that_can_be_opened(machine, tmp_path):
    assert tpu.chips() == []
    machine(7, vendor="0x10de")
    assert tpu.chips() == []
    machine(3, 1)
    assert [chip.name for chip in tpu.chips()] == ["1", "3"]
    (tmp_path / "dev" / "vfio" / "3").unlink()
    assert [chip.name for chip in tpu.chips()] == ["1"]
    (tmp_path / "dev" / "vfio" / "1").unlink()
    (tmp_path / "dev" / "accel0").write_text("")
    assert [chip.name for chip in tpu.chips()] == ["accel0"]


def test_without_a_tpu_the_compiler_and_the_cpu_are_named(machine):
    config = composed("hardware=tpu_v6e_8")
    with pytest.raises(UserError) as refused:
        resolve(config)
    assert str(refused.value) == (
        "hardware=tpu_v6e_8 is of 8 TPU chips and there is no TPU here; task=plan "
        "task.compile=true asks its compiler without one, and hardware.device=cpu "
        "hardware.precision=float32 takes the same steps by processes of this CPU"
    )


def test_with_chips_the_packages_are_asked_for(machine, monkeypatch):
    machine(1, 2)

    def missing(what):
        raise UserError(f"{what} needs torch_tpu")

    monkeypatch.setattr(tpu, "check_torch_tpu", missing)
    with pytest.raises(UserError, match="hardware=tpu_here needs torch_tpu"):
        tpu.check_tpu(hardware())


def test_fewer_or_more_chips_than_the_mesh_has_are_refused(machine, installed):
    machine(1, 2)
    tpu.check_tpu(hardware(2))
    with pytest.raises(
        UserError, match=r"is of 8 chips and this machine has 2; set hardware\.mesh"
    ):
        tpu.check_tpu(hardware(8))


HOLD = "import sys; held = open(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_chip_that_another_process_has_is_refused_by_its_number(machine, installed):
    machine(1, 2)
    with tpu.chips()[0].open():
        tpu.check_tpu(hardware())  # this process's own
    command = [sys.executable, "-c", HOLD, str(tpu.chips()[1])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"tpu_here: process {holder.pid} holds a chip"):
            tpu.check_tpu(hardware())
        holder.stdin.close()
    tpu.check_tpu(hardware())


def test_processes_that_torchrun_started_do_not_take_each_other_for_strangers(
    machine, installed, monkeypatch
):
    machine(1, 2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    command = [sys.executable, "-c", HOLD, str(tpu.chips()[1])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as sibling:
        assert sibling.stdout.readline() == b"held\n"
        tpu.check_tpu(hardware())
        sibling.stdin.close()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["hardware.device=gpu"], "hardware.runtime=torch_tpu is for hardware.device=tpu or cpu"),
        (["hardware.runtime=jax"], "hardware.runtime='jax' is not known; choose from torch_tpu"),
        (["hardware=cpu", "hardware.runtime=torch_tpu"], "needs the chips: set hardware.mesh"),
    ],
)
def test_a_runtime_that_does_not_fit_is_refused(changes, line):
    with pytest.raises(UserError, match=line):
        composed("hardware=tpu_v6e_8", *changes)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["training.batch_size=12"], "hardware.mesh.expert=8 does not divide training.batch_size"),
        (["hardware.scan=true"], "set hardware.scan=false"),
    ],
)
def test_what_its_processes_do_not_do_is_refused(machine, monkeypatch, changes, line):
    monkeypatch.setattr("glam.machine.resources.check_tpu", lambda hardware: None)
    with pytest.raises(UserError, match=line):
        resolve(composed("hardware=tpu_v6e_8", *changes))


def test_a_tpu_is_a_device_in_bfloat16(machine, monkeypatch):
    monkeypatch.setattr("glam.machine.resources.check_tpu", lambda hardware: None)
    found = resolve(composed("hardware=tpu_v6e_8"))
    assert (found.device, found.precision, found.threads) == ("tpu", "bfloat16", 1)
    assert os.environ.get("TORCHELASTIC_RUN_ID") is None
