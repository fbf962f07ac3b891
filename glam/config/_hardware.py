"""Hardware: this machine, or a description of many devices, such as a TPU slice."""

import math
from dataclasses import dataclass, field

from glam.config._checks import LARGEST, LARGEST_SIZE, divisors, plain_name, shown, within
from glam.errors import UserError, nearest, one_of

DEVICES = ("auto", "cpu", "gpu", "mps", "tpu", "xla_cpu")

RUNTIMES = ("torch_xla", "torch_tpu")  # what brings torch to a TPU

TOPOLOGIES = {"v3": 2, "v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}  # sides of a slice's shape

# The axes of tensors that a rule may split: of weights, and (batch, activation) of what flows.
LOGICAL_AXES = ("batch", "activation", "embed", "heads", "hidden", "experts", "vocab")

COMPILED = ("auto", "off", "attention", "layers")  # what torch.compile makes a program of

MEASURES = ("memory_gb", "watts", "peak_tflops", "share_of_peak")


@dataclass(kw_only=True)
class HardwareConfig:
    """Devices and how tensors are split among them. null and auto are resolved on the machine; the
    resolved precision and thread count are part of a run's identity. `mesh` and `rules` are the
    layout table: the axes of the mesh, and which of them splits each logical axis of a tensor."""

    name: str = "auto"  # for people: the file in conf/hardware
    device: str = "auto"  # auto | cpu | gpu | mps | tpu | xla_cpu (virtual devices on the CPU)
    # of a TPU: torch_xla (one program for all chips) | torch_tpu (a process for each chip; with
    # device cpu, the same steps by processes of this CPU); null: torch_xla
    runtime: str | None = None
    num_devices: int | None = None  # [devices] null: the size of the mesh, else 1
    # [devices] of each axis of the mesh: {axis: size}
    mesh: dict[str, int] = field(default_factory=dict[str, int])
    # which axis of the mesh splits a logical axis of the tensors: {logical axis: mesh axis}; null:
    # none does
    rules: dict[str, str | None] = field(default_factory=dict[str, str | None])
    scan: bool = False  # XLA: compile the layers as a loop, in the time of one layer
    topology: str | None = None  # of a TPU slice, as its compiler writes it: v4:2x2x2
    # [threads] of one run; null: as the FLOPs of a step are worth, fewer in a grid
    threads: int | None = None
    precision: str = "auto"  # of activations: auto | bfloat16 | float32; weights stay float32
    # of a GPU, by torch.compile: off | attention (one fused kernel) | layers (whole, attention
    # with them) | auto: layers in bfloat16, else attention; off where there is no Triton
    compile: str = "auto"
    max_jobs: int | None = None  # [runs] of a grid at once; null: as cores and memory allow
    memory_gb: float | None = None  # [GB] of one device; null: what this machine has
    watts: float | None = None  # [W] of one device; null: measured where possible, else modelled
    # [TFLOP/s] of one device at that precision; null: an estimate that the plan states
    peak_tflops: float | None = None
    share_of_peak: float | None = None  # [share] of peak_tflops that training reaches
    share_source: str = ""  # where share_of_peak is from, for the plan
    watts_source: str = ""  # where watts is from, for the plan
    pue: float = 1.0  # [ratio] power usage effectiveness: energy of the building over the devices'
    grid_kg_per_kwh: float = 0.48  # [kg/kWh] of CO2 equivalent
    # where grid_kg_per_kwh is from, for the plan
    grid_source: str = "world average of 2023: Ember, Global Electricity Review 2024"

    def __post_init__(self) -> None:
        plain_name("hardware.name", self.name)
        one_of("hardware.device", self.device, DEVICES)
        one_of("hardware.precision", self.precision, ("auto", "bfloat16", "float32"))
        one_of("hardware.compile", self.compile, COMPILED)
        self._check_runtime()
        given = [name for name in MEASURES if getattr(self, name) is not None]
        within("hardware.", self, 1e-6, LARGEST, *given)
        within("hardware.", self, 0, 1, *(["share_of_peak"] if self.share_of_peak else []))
        counts = ("threads", "max_jobs", "num_devices")
        given = [name for name in counts if getattr(self, name) is not None]
        within("hardware.", self, 1, LARGEST_SIZE, *given)
        within("hardware.", self, 1, 10, "pue")
        within("hardware.", self, 0, 10, "grid_kg_per_kwh")
        self._check_layout()
        self._check_topology()
        if self.scan and not self.is_xla:
            raise UserError(
                f"hardware.scan=true is XLA's, and hardware={self.name} has none; leave it out"
            )
        if self.is_described:
            for name in ("peak_tflops", "share_of_peak", "memory_gb"):
                if getattr(self, name) is None:
                    raise UserError(
                        f"hardware.{name} is not set, and hardware={self.name} describes "
                        f"{self.devices} devices that may be elsewhere; set it"
                    )

    def _check_runtime(self) -> None:
        if self.runtime is None:
            return
        one_of("hardware.runtime", self.runtime, RUNTIMES)
        able = ("tpu", "cpu") if self.runtime == "torch_tpu" else ("tpu", "xla_cpu")
        if self.device not in able:
            raise UserError(
                f"hardware.runtime={self.runtime} is for hardware.device={' or '.join(able)}, not "
                f"{self.device}; leave it out"
            )
        if not self.mesh and self.runtime == "torch_tpu":
            raise UserError(
                "hardware.runtime=torch_tpu needs the chips: set hardware.mesh and hardware.rules, "
                "or take a file that has them, as hardware=tpu_v6e_8"
            )

    def _check_layout(self) -> None:
        self.rules = {axis: rule for axis, rule in self.rules.items() if rule is not None}
        for axis, size in self.mesh.items():
            if size < 1:
                raise UserError(f"hardware.mesh.{axis}={size} must be positive")
            if size > LARGEST_SIZE:
                raise UserError(
                    f"hardware.mesh.{axis}={shown(size)} must be at most {LARGEST_SIZE:,}"
                )
        if self.mesh and self.num_devices not in (None, math.prod(self.mesh.values())):
            raise UserError(
                f"hardware.num_devices={self.num_devices} but hardware.mesh={self.mesh} is of "
                f"{math.prod(self.mesh.values())}; leave one of them out"
            )
        for axis, mesh_axis in self.split_by.items():
            if axis not in LOGICAL_AXES:
                raise UserError(
                    f"hardware.rules.{axis}={mesh_axis}: there is no logical axis {axis}; "
                    f"{nearest(axis, LOGICAL_AXES)}"
                )
            if mesh_axis not in self.mesh:
                raise UserError(
                    f"hardware.rules.{axis}={mesh_axis}: hardware.mesh has no axis {mesh_axis}; "
                    f"{nearest(mesh_axis, self.mesh)}"
                )

        for axis, size in self.mesh.items():
            if size > 1 and self.rules and axis not in self.rules.values():
                raise UserError(
                    f"hardware.mesh.{axis}={size}: no rule of hardware.rules splits anything along "
                    f"{axis}; {nearest(axis, sorted(set(self.split_by.values())))}"
                )

    def _check_topology(self) -> None:
        if self.topology is None:
            return
        kind, _, shape = self.topology.partition(":")
        sides = [int(side) for side in shape.split("x") if side.isdecimal() and int(side)]
        if len(sides) != TOPOLOGIES.get(kind) or shape != "x".join(map(str, sides)):
            examples = ", ".join(f"{k}:{'x'.join(['4'] * n)}" for k, n in TOPOLOGIES.items())
            raise UserError(
                f"hardware.topology={self.topology} is not a kind of TPU and the shape of a slice; "
                f"for example {examples}"
            )
        described = self.name.removeprefix("tpu_").partition("_")[0]
        if described in TOPOLOGIES and described != kind:
            raise UserError(
                f"hardware.topology={self.topology} is of another TPU than hardware={self.name}, "
                f"whose memory, speed and watts it would keep; choose a hardware=tpu_{kind}_..."
            )
        chips = math.prod(sides)
        if chips != self.devices:
            raise UserError(
                f"hardware.topology={self.topology} is of {chips:,} chips and "
                f"hardware.mesh={self.mesh} of {self.devices:,}; {self._of_devices(chips)}"
                f"leave the topology out with hardware.topology=null"
            )

    def _of_devices(self, number: int) -> str:
        """A hint: the size of one axis that makes the mesh have `number` devices, where there is
        one."""
        for axis, size in reversed(self.mesh.items()):
            others = self.devices // size
            if self.num_devices is None and number % others == 0:
                return f"try hardware.mesh.{axis}={number // others}, or "
        return "make them equal, or "

    @property
    def devices(self) -> int:
        return self.num_devices or math.prod(self.mesh.values())

    @property
    def is_xla(self) -> bool:
        """Whether XLA compiles the step, whatever brings torch to it."""
        return self.device in ("tpu", "xla_cpu")

    @property
    def has_one_shape(self) -> bool:
        """Whether every step has the same shapes, whatever the router chooses."""
        return self.is_xla or self.runtime == "torch_tpu"

    @property
    def is_cluster(self) -> bool:
        """Whether torch processes train one model, a process for each device."""
        return self.runtime == "torch_tpu" or (not self.is_xla and self.devices > 1)

    @property
    def engine(self) -> str:
        """The engine that trains on it: one_device | fsdp | xla."""
        return "fsdp" if self.is_cluster else "xla" if self.is_xla else "one_device"

    @property
    def is_described(self) -> bool:
        """Whether the file describes the devices, which may be in other machines."""
        return self.is_xla or self.devices > 1

    @property
    def split_by(self) -> dict[str, str]:
        """The rules that there are: by logical axis, the axis of the mesh."""
        return {axis: rule for axis, rule in self.rules.items() if rule is not None}

    def shards(self, axis: str) -> int:
        """Into how many parts the logical `axis` is split."""
        return self.mesh[self.split_by[axis]] if axis in self.split_by else 1


def check_divisible(axis: str, key: str, value: int, hardware: HardwareConfig) -> None:
    """Raise UserError where the mesh does not divide `value`, the value of `key`."""
    parts = hardware.shards(axis)
    if value % parts:
        near = sorted(sorted(divisors(value), key=lambda part: abs(part - parts))[:2])
        raise UserError(
            f"hardware.mesh.{hardware.rules[axis]}={parts} does not divide {key}={value}; "
            f"try {' or '.join(map(str, near))}, or another {key}"
        )
