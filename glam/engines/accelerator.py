# pyright: basic
"""An accelerator for Lightning, whose own are for the devices of other runtimes."""

from typing import Any, ClassVar

import torch
from lightning.pytorch.accelerators import Accelerator


class PlainAccelerator(Accelerator):
    """As many of `device` as it is asked for; the engine has started them."""

    device: ClassVar[str]

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @classmethod
    def get_parallel_devices(cls, devices: Any) -> Any:
        return [torch.device(cls.device)] * int(devices)

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @classmethod
    def name(cls) -> str:
        return cls.device
