"""The text of a compiled program (HLO), read: how often each collective runs in a step, over which
axes of the mesh, and whether what it sends is an argument of the program or computed.

A program is a set of computations, each a list of instructions; a loop over layers is one
computation that runs as often as its condition says. Nothing here needs XLA.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

SIZES = {"pred": 1, "s8": 1, "u8": 1, "s64": 8, "u64": 8, "f64": 8, "bf16": 2, "f16": 2, "u16": 2}
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
SCATTERED = "all-reduce-scatter"  # how the TPU's compiler calls a fused reduce-scatter
# What gives the values of its first operand, all or some of them, in whatever form.
MOVES = (
    *("all-gather", "all-gather-start", "all-gather-done", "all-to-all", "bitcast"),
    *("bitcast-convert", "collective-permute", "collective-permute-start"),
    *("collective-permute-done", "convert", "copy", "copy-start", "copy-done", "dynamic-slice"),
    *("optimization-barrier", "pad", "reduce-precision", "reshape", "slice", "slice-start"),
    *("slice-done", "transpose"),
)


class Collective(NamedTuple):
    """A kind of collective along some mesh axes."""

    kind: str  # of COLLECTIVES
    over: str  # the mesh axes they go along: `expert`, or `expert and model`
    arguments: frozenset[int]  # of the program, whose values they move; none: what is computed


class Sent(NamedTuple):
    """Of one step: number of collectives, and bytes of their results on one device."""

    number: int
    bytes: int


class Instruction(NamedTuple):
    """One instruction of a compiled program, as its text gives it."""

    computation: str
    name: str
    shape: str
    opcode: str
    inside: str  # the parentheses: operands, a parameter's number, a constant's value
    after: str  # attributes

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.-]+)", self.inside)

    def called(self, attribute: str) -> str | None:
        found = re.search(rf"\b{attribute}=%([\w.-]+)", self.after)
        return found and found[1]


class Program:
    """Raises ValueError for a text that is not a program."""

    def __init__(self, text: str) -> None:
        self._in: dict[str, dict[str, Instruction]] = {}
        self._roots: dict[str, Instruction] = {}
        self._callers: dict[str, list[Instruction]] = defaultdict(list)
        self._entry = ""
        name = ""
        for line in text.splitlines():
            if head := re.match(r"(ENTRY )?%([\w.-]+) .*\{$", line):
                name = head[2]
                self._in[name] = {}
                self._entry = name if head[1] else self._entry
            elif found := _instruction(name, line):
                self._in[name][found.name] = found
                if line.lstrip().startswith("ROOT "):
                    self._roots[name] = found
        if not self._entry:
            raise ValueError("no ENTRY in the program's text")
        for instruction in self._instructions():
            for attribute in ("calls", "body", "to_apply"):
                if (called := instruction.called(attribute)) is not None:
                    self._callers[called].append(instruction)

    def _instructions(self) -> Iterator[Instruction]:
        for computation in self._in.values():
            yield from computation.values()

    def collectives(self, mesh: Mapping[str, int]) -> dict[Collective, Sent]:
        """Alike ones together; of `mesh`, devices are in row-major order. What is started and then
        waited for counts once."""
        counts, sizes = Counter[Collective](), Counter[Collective]()
        for one in self._instructions():
            if (kind := _kind(one)) is not None:
                groups = self._groups(one) if kind == "reduce-scatter" else one.after
                alike = Collective(kind, _axes(groups, mesh), self._arguments_of(one))
                times = self._times(one.computation)
                counts[alike] += times
                sizes[alike] += times * _result_bytes(one)
        return {alike: Sent(counts[alike], sizes[alike]) for alike in counts}

    def _groups(self, scatter: Instruction) -> str:
        """Attributes of the all-reduce that a fused reduce-scatter contains."""
        inside = self._in.get(scatter.called("calls") or "", {}).values()
        return next((i.after for i in inside if i.opcode == "all-reduce"), scatter.after)

    @cache  # noqa: B019 (a program lives as long as what asks it)
    def _times(self, computation: str) -> int:
        """How often a computation runs in a step."""
        if computation == self._entry:
            return 1
        callers = self._callers[computation]
        return sum(self._times(one.computation) * self._turns(one) for one in callers)

    def _turns(self, caller: Instruction) -> int:
        """Trip count of a loop, which its condition compares the counter with; 1 for other
        callers."""
        condition = caller.called("condition")
        if condition is None:
            return 1
        constants = (i.inside for i in self._in[condition].values() if i.opcode == "constant")
        return max((int(value) for value in constants if value.isdigit()), default=1)

    def _arguments_of(self, moving: Instruction) -> frozenset[int]:
        """Numbers of the program's arguments whose values it moves, followed backwards through
        whatever moves values and computes none."""
        arguments: set[int] = set()
        seen: set[tuple[Instruction, int | None]] = set()
        # An instruction, and which part of it where it is a tuple.
        waiting: list[tuple[Instruction, int | None]] = [
            (operand, None) for operand in self._operands(moving)
        ]
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            if at[0].opcode == "parameter" and at[0].computation == self._entry:
                arguments.add(int(at[0].inside))
            else:
                waiting += self._before(*at)
        return frozenset(arguments)

    def _operands(self, one: Instruction) -> list[Instruction]:
        here = self._in[one.computation]
        return [here[name] for name in one.operands if name in here]

    def _before(self, one: Instruction, part: int | None) -> list[tuple[Instruction, int | None]]:
        """What `one`, or its `part`, has its values from; nothing where it computes them."""
        known = self._operands(one)
        match one.opcode:
            case "parameter":
                return self._arguments(one, part)
            case "get-tuple-element":
                index = re.search(r"index=(\d+)", one.after)
                return [(known[0], int(index[1]))] if index else []
            case "tuple":
                return [(known[part], None)] if part is not None else []
            case "while":  # as it was, or as a turn leaves it
                body = one.called("body")
                return [(known[0], part), *([(self._roots[body], part)] if body else [])]
            case "concatenate":
                return [(operand, None) for operand in known]
            case "dynamic-update-slice":
                return [(operand, None) for operand in known[:2]]
            case "maximum":  # of padded arrays: how the TPU's compiler lays them side by side
                return [(each, None) for each in known if each.opcode in ("pad", "maximum")]
            case opcode if (called := one.called("calls")) is not None:
                # The parts of what is started are its operands, then its results.
                inner = None if opcode.startswith("async") else part
                return [(self._roots[called], inner)]
            case "async-update" | "async-done":
                return [(known[0], None)]
            case opcode if opcode in MOVES:
                return [(operand, None) for operand in known[:1]]
            case _:
                return []

    def _arguments(
        self, parameter: Instruction, part: int | None
    ) -> list[tuple[Instruction, int | None]]:
        """What callers give for a parameter of a computation."""
        found: list[tuple[Instruction, int | None]] = []
        for caller in self._callers[parameter.computation]:
            here = self._in[caller.computation]
            if caller.opcode == "while":
                found.append((caller, part))
            else:
                found.append((here[caller.operands[int(parameter.inside)]], part))
        return found


def _instruction(computation: str, line: str) -> Instruction | None:
    head = re.match(r"\s+(?:ROOT )?%([\w.-]+) = ", line)
    if head is None:
        return None
    start = head.end()
    end = _closing(line, start) + 1 if line[start] == "(" else line.index(" ", start)
    opening = line.index("(", end)
    closing = _closing(line, opening)
    return Instruction(
        computation,
        head[1],
        line[start:end],
        line[end:opening].strip(),
        line[opening + 1 : closing],
        line[closing + 1 :],
    )


def _closing(line: str, opening: int) -> int:
    """Index of the parenthesis that closes the one at `opening`."""
    depth = 0
    for found in re.finditer(r"[()]", line[opening:]):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return opening + found.start()
    raise ValueError(f"a parenthesis is not closed: {line[:200]}")


def _kind(one: Instruction) -> str | None:
    """The kind of a collective; None for any other instruction, and inside a fused one."""
    if one.computation.startswith(SCATTERED):
        return None
    if (one.called("calls") or "").startswith(SCATTERED):
        return "reduce-scatter"
    kind = one.opcode.removesuffix("-start")
    return kind if kind in COLLECTIVES else None


def _result_bytes(one: Instruction) -> int:
    """Of what is started the result comes after the operand, with counters behind it."""
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", one.shape)
    if one.opcode in ("all-gather-start", "collective-permute-start"):
        arrays = arrays[1:2]
    return sum(
        SIZES.get(dtype, 4) * math.prod(int(size) for size in dims.split(",") if size)
        for dtype, dims in arrays
    )


def _axes(attributes: str, mesh: Mapping[str, int]) -> str:
    """Of the mesh, along which the devices of a group lie: `expert`, or `expert and model`."""
    places: list[list[int]] = []
    for device in _first_group(attributes):
        place: list[int] = []
        for size in reversed(list(mesh.values())):
            device, at = divmod(device, size)
            place.insert(0, at)
        places.append(place)
    varying = [axis for n, axis in enumerate(mesh) if len({place[n] for place in places}) > 1]
    return " and ".join(varying)


def _first_group(attributes: str) -> list[int]:
    """Either listed, `{{0,1},{2,3}}`, or axes of a mesh, `mesh['a'=2,'b'=4] {'b'}`, or cut from
    devices laid out and turned, `[groups,size]<=[dims]T(order)`. What goes from device to device
    has none."""
    if meshed := re.search(r"replica_groups=mesh\[([^\]]+)\] \{([^}]*)\}", attributes):
        return _along(*meshed.groups())
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return [int(device) for device in listed[1].split(",")]
    cut = re.search(r"replica_groups=\[\d+,(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
    if cut is None:
        return []
    dims = [int(size) for size in cut[2].split(",")]
    order = [int(axis) for axis in cut[3].split(",")] if cut[3] else list(range(len(dims)))
    strides = [math.prod(dims[axis + 1 :]) for axis in range(len(dims))]
    group: list[int] = []
    for number in range(int(cut[1])):
        device = 0
        for axis in reversed(order):
            number, at = divmod(number, dims[axis])
            device += at * strides[axis]
        group.append(device)
    return group


def _along(mesh: str, axes: str) -> list[int]:
    """The devices from the first one on along some axes, `'b'`, of a mesh, `'a'=2,'b'=4`, of
    devices in row-major order."""
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
    varying = re.findall(r"'(\w+)'", axes)
    group, stride = [0], 1
    for name, size in reversed(sizes.items()):
        if name in varying:
            group = [stride * at + device for at in range(size) for device in group]
        stride *= size
    return sorted(group)
