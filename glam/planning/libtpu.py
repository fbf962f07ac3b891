# jax ships types, but none of what is used here.
# pyright: basic, reportMissingImports=false, reportPrivateImportUsage=false
"""libtpu, the TPU's compiler, by functions of jax that are not public: jax is pinned, in the extra
`tpu` and in requirements-xla.txt. It compiles for a slice that it is told, and looks for no TPU."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from glam.config import HardwareConfig
from glam.errors import UserError, first_line

SOURCES = 10  # of the text, whose losses a compiled step keeps apart
PREFIXES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# How libtpu 0.0.21 and 0.0.52 say it.
TOO_LARGE = (
    r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm",
    r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)",
)
# Windowed products would be counted short.
WHOLE_PRODUCTS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}


class Asked(NamedTuple):
    """A program for the compiler."""

    program: Any  # StableHLO, as the jax that is here takes it
    weights: Sequence[str | None]  # by argument, the name of the weight that it is
    versions: dict[str, str]  # of the libraries that made it, and of the compiler

    def parts(self, arguments: Iterable[int]) -> set[str]:
        """Of the model, whose weights are the arguments of these numbers."""
        names = (self.weights[number] for number in arguments)
        return {"experts" if ".experts." in name else "other" for name in names if name}


class TooLargeError(Exception):
    """The compiler refused the program: it needs more bytes than a device has."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"{needed} of {available} bytes")
        self.needed, self.available = needed, available


def describe_only() -> None:
    """Neither libtpu nor jax is to look for a TPU."""
    os.environ.update(
        JAX_PLATFORMS="cpu",
        TPU_SKIP_MDS_QUERY="1",
        TPU_WORKER_HOSTNAMES="localhost",
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",
        TPU_HOST_BOUNDS="1,1,1",  # else libtpu complains that it finds none
    )
    os.environ.pop("TPU_ACCELERATOR_TYPE", None)  # with it libtpu aborts


def versions(*packages: str) -> dict[str, str]:
    """The installed versions."""
    return {package: metadata.version(package) for package in (*packages, "libtpu", "jax")}


def described(hardware: HardwareConfig) -> Sequence[Any]:
    """The devices of `hardware.topology`. Raises UserError where they are not as many as the
    mesh's."""
    from jax.experimental import topologies

    assert hardware.topology is not None
    megacore = {"chip_config_name": "megacore"} if hardware.topology.startswith("v4") else {}
    try:
        devices = topologies.get_topology_desc(
            platform="tpu", topology_name=hardware.topology, **megacore
        ).devices
    except Exception as error:
        raise UserError(
            f"hardware.topology={hardware.topology} is no slice for the TPU's compiler "
            f"({first_line(error)}); take the shape of a file of conf/hardware, such as "
            f"hardware=tpu_v4_64"
        ) from error
    if len(devices) != hardware.devices:
        raise UserError(
            f"hardware.topology={hardware.topology} is of {len(devices)} devices for its compiler "
            f"and hardware.mesh of {hardware.devices}; make them equal"
        )
    return devices


def options(devices: int, more: Mapping[str, str] | None = None, *, shardy: bool = False) -> Any:
    """Of a program for so many devices, split by XLA."""
    from jax._src import compiler

    found = compiler.get_compile_options(
        num_replicas=1,
        num_partitions=devices,
        device_assignment=np.arange(devices).reshape(1, -1),
        env_options_overrides=dict(more or {}),
    )
    found.executable_build_options.use_spmd_partitioning = True
    found.executable_build_options.use_shardy_partitioner = shardy
    return found


def compiled_for(devices: Sequence[Any], program: Any, *, shardy: bool = False) -> Any:
    """The program, StableHLO as this jax takes it, compiled. Raises TooLargeError."""
    from jax._src.lib import xla_client

    try:
        return devices[0].client.compile(
            program,
            executable_devices=xla_client.DeviceList(tuple(devices)),
            compile_options=options(len(devices), WHOLE_PRODUCTS, shardy=shardy),
        )
    except Exception as error:
        if (found := too_large_for(error)) is None:
            raise
        raise found from error


def too_large_for(error: Exception) -> TooLargeError | None:
    """What the compiler's error says of bytes; None where it is about something else."""
    found = (re.search(form, str(error)) for form in TOO_LARGE)
    if (said := next(filter(None, found), None)) is None:
        return None
    return TooLargeError(*(int(float(said[n]) * PREFIXES[said[n + 1]]) for n in (1, 3)))
