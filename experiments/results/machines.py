"""The machine that a row of a table is of, and this one."""

from experiments.results.grids import Row
from glam.machine.resources import Resources
from glam.reporting.study_table import MACHINE
from glam.runs.machine import machine_of

Machine = tuple[str, ...]  # as MACHINE


def machine_in(row: Row) -> Machine | None:
    """Of a row; None where it says none."""
    found = tuple(row.get(name, "") for name in MACHINE)
    return found if found[0] else None


def machine_here(resources: Resources) -> Machine:
    """As a row of a run of today says it."""
    found = machine_of(resources)
    sets = " ".join(found["instruction_sets"])
    return tuple(sets if name == "instruction_sets" else found[name] for name in MACHINE)


def words(machine: Machine | None) -> str:
    return f"{machine[0]} ({machine[2]} kernels)" if machine else "a machine that it does not name"
