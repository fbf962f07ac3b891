# torch_tpu is an extra (make tpu) and ships few types.
# pyright: basic, reportMissingImports=false
"""TPU chips for the engine of torch processes: TorchTPU (torch_tpu), by its public names alone.

Nothing here runs without a TPU, where the first operation would end the process (SIGABRT):
`glam.machine.tpu` refuses before.
"""

import contextlib
import os
import warnings
from importlib.metadata import entry_points
from pathlib import Path

import torch

from glam.engines.accelerator import PlainAccelerator
from glam.errors import UserError


class TpuAccelerator(PlainAccelerator):
    """One chip a process: each calls its own `tpu`."""

    device = "tpu"


def load() -> None:
    """Make torch know the device `tpu`, as its own loading of backends would. Raises UserError
    where torch_tpu finds no chip."""
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):  # its banners
        for backend in entry_points(group="torch.backends", name="torch_tpu"):
            backend.load()()
    if torch._C._get_privateuse1_backend_name() != "tpu":
        raise UserError(
            "torch_tpu finds no TPU in this machine; look whether this user may open /dev/vfio"
        )


def set_launch_environment(processes: int) -> None:
    """What the processes that this one starts have to agree on."""
    load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the function is experimental
        torch.get_device_module("tpu").distributed.set_tpu_launch_env(nproc_per_node=processes)
