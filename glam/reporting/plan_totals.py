"""What all runs of a grid need and cost together, and which of its plans are the same."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from glam.units import JOULES_PER_MWH

Plan = Mapping[str, Any]


class Group(NamedTuple):
    """Plans that differ in their cell's name only, such as those of several seeds."""

    label: str  # what their cells have in common
    plan: Plan  # the first
    runs: int


class Totals(NamedTuple):
    """Of training alone: start-up, evaluation and reports come on top."""

    runs: int
    at_once: int  # runs
    hours: float  # one run after the other
    hours_at_once: float  # with so many at once
    joules: float | None  # None: the watts of some device are not known
    hours_by_kind: dict[str, float]  # by where the throughput is from


def totals(plans: Sequence[Plan], at_once: int) -> Totals:
    """The sums over `plans`, with `at_once` runs side by side."""
    hours = [float(plan["hours"]) for plan in plans]
    energy = [plan["megawatt_hours"] for plan in plans]
    by_kind = dict[str, float]()
    for plan, one in zip(plans, hours, strict=True):
        kind = str(plan["throughput_kind"])
        by_kind[kind] = by_kind.get(kind, 0.0) + one
    return Totals(
        runs=len(plans),
        at_once=at_once,
        hours=sum(hours),
        hours_at_once=max(*hours, sum(hours) / at_once) if hours else 0.0,
        joules=None if None in energy else JOULES_PER_MWH * sum(energy),
        hours_by_kind=by_kind,
    )


def groups(plans: Sequence[Plan]) -> list[Group]:
    """The distinct plans, in the order in which they come."""
    alike: list[list[Plan]] = []
    for plan in plans:
        same = next((members for members in alike if _same(members[0], plan)), None)
        if same is None:
            alike.append([plan])
        else:
            same.append(plan)
    return [Group(_label(members), members[0], len(members)) for members in alike]


def _same(one: Plan, other: Plan) -> bool:
    return all(one[key] == other[key] for key in one if key != "cell")


def _label(members: Sequence[Plan]) -> str:
    """`num_experts=8` of `num_experts=8, seed=0` and `num_experts=8, seed=1`."""
    parts = [str(plan["cell"] or plan["model"]).split(", ") for plan in members]
    shared = [part for part in parts[0] if all(part in others for others in parts)]
    return ", ".join(shared) or str(members[0]["model"])
