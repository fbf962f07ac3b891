"""The TPU chips of this machine, found without their runtime: an operation on a chip that is absent
or taken ends the process (SIGABRT). No torch."""

import os
from collections.abc import Iterator
from pathlib import Path

from glam.config import HardwareConfig
from glam.errors import UserError
from glam.machine.environments import check_torch_tpu
from glam.machine.processes import under_torchrun

GOOGLE = "0x1ae0"  # as a vendor on the PCI bus
SYS, DEV, PROC = Path("/sys"), Path("/dev"), Path("/proc")


def chips() -> list[Path]:
    """The device files of the chips that a process may open; of each its VFIO group, or an
    `accel` file of older machines."""
    devices = [d for d in SYS.glob("bus/pci/devices/*") if _vendor(d) == GOOGLE]
    groups = [DEV / "vfio" / (d / "iommu_group").readlink().name for d in devices if _grouped(d)]
    found = sorted({group for group in groups if group.exists()})
    return found or (sorted(DEV.glob("accel[0-9]*")) if devices else [])


def _vendor(device: Path) -> str:
    try:
        return (device / "vendor").read_text().strip()
    except OSError:
        return ""


def _grouped(device: Path) -> bool:
    return (device / "iommu_group").is_symlink()


def check_tpu(hardware: HardwareConfig) -> None:
    """Raises UserError where processes of torch_tpu could not compute on this machine."""
    name, found = f"hardware={hardware.name}", chips()
    if not found:
        raise UserError(
            f"{name} is of {hardware.devices} TPU chips and there is no TPU here; task=plan "
            f"task.compile=true asks its compiler without one, and hardware.device=cpu "
            f"hardware.precision=float32 takes the same steps by processes of this CPU"
        )
    check_torch_tpu(name)
    if under_torchrun():
        return  # whoever started this process has looked at the rest
    if len(found) != hardware.devices:
        raise UserError(
            f"{name} is of {hardware.devices} chips and this machine has {len(found)}; set "
            f"hardware.mesh to sizes whose product is {len(found)}, or start the command on every "
            f"host with torchrun"
        )
    if holder := next(_holders(found), None):
        raise UserError(
            f"{name}: process {holder} holds a chip ({found[0].parent}), which one process at a "
            f"time may have; wait for its end, or end it"
        )


def _holders(files: list[Path]) -> Iterator[int]:
    """Processes that have one of the files open, as far as this user may see them."""
    for handle in PROC.glob("[0-9]*/fd/*"):
        try:
            is_one = handle.readlink() in files
        except OSError:
            continue  # it has ended, or is another user's
        if is_one and int(handle.parts[-3]) != os.getpid():
            yield int(handle.parts[-3])
