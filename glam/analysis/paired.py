"""The cells of a study, and what their comparison says: differences between runs that share their
seed, with intervals (Student's t over the seeds)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from glam.config import StudyConfig
from glam.runs.record import mapping
from glam.units import is_number

EXPERTS = "model.num_experts"
CONFIDENCE = 0.95
# What other values are compared with, where a key has such a value; words else with the first.
BASELINES: dict[str, tuple[Any, ...]] = {
    EXPERTS: (1,),  # the dense twin
    "data": ("unfiltered",),
    "data.filter.name": ("none",),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study."""

    run: str
    values: dict[str, Any]
    status: str
    summary: dict[str, Any]  # empty until the run is done
    error: str
    progress: dict[str, Any]  # of a run that goes on: stage, done, total

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Cell":
        return cls(
            run=str(row["run"]),
            values={key: _scalar(value) for key, value in row["values"].items()},
            status=str(row["status"]),
            summary=row.get("summary") or {},
            error=str(row.get("error") or ""),
            progress=row.get("progress") or {},
        )

    @property
    def seed(self) -> Any:
        return self.values.get("seed", self.summary.get("seed"))

    def loss(self, domain: str) -> float | None:
        """Final held-out loss in nats per token; None where there is no finite one."""
        value = self.part("loss").get(domain)
        return float(value) if is_number(value) else None

    def part(self, name: str) -> dict[str, Any]:
        return mapping(self.summary.get(name))


def _scalar(value: Any) -> Any:
    """Values are compared and looked up; a list or a mapping is by its text."""
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Loss of `value` minus loss of the baseline: mean over the seeds that both have, and its
    95 % interval (None with one seed)."""

    value: Any
    mean: float
    interval: tuple[float, float] | None
    paired: tuple[float, ...]  # a seed each

    @property
    def num_seeds(self) -> int:
        return len(self.paired)


def domains(cells: Sequence[Cell]) -> list[str]:
    """The mean, then every domain that any cell was measured on."""
    names = dict.fromkeys(name for cell in cells for name in cell.part("loss"))
    return ["mean", *(name for name in names if name != "mean")] if names else []


def axis_key(swept: Sequence[str], cells: Sequence[Cell]) -> str | None:
    """The key that the figures run along: the experts, or the first that takes several values;
    the seed only when nothing else is swept. None where nothing is."""
    varied = [key for key in swept if len(values_of(key, cells)) > 1] or list(swept)
    for key in (EXPERTS, *(k for k in varied if k != "seed"), "seed"):
        if key in varied:
            return key
    return None


def values_of(key: str, cells: Sequence[Cell]) -> list[Any]:
    """The values that `key` takes, numbers in order, words as they come."""
    found: list[Any] = []
    for cell in cells:
        if key in cell.values and cell.values[key] not in found:
            found.append(cell.values[key])
    return sorted(found) if is_numeric(found) else found


def is_numeric(values: Sequence[Any]) -> bool:
    return all(is_number(value) and not isinstance(value, bool) for value in values)


def series(cells: Sequence[Cell], key: str) -> dict[str, list[Cell]]:
    """Cells gathered by what else is swept, besides `key` and the seed: one line of a figure."""
    lines: dict[str, list[Cell]] = {}
    for cell in cells:
        others = {k: v for k, v in cell.values.items() if k not in (key, "seed")}
        label = ", ".join(f"{k.rpartition('.')[2]} {in_words(v)}" for k, v in others.items())
        lines.setdefault(label, []).append(cell)
    return lines


def in_words(value: Any) -> str:
    """A swept value: large whole numbers with their thousands apart."""
    return f"{value:,}" if type(value) is int else str(value)


def combinations(cells: Sequence[Cell], key: str | None) -> list[tuple[Any, str, list[Cell]]]:
    """Cells that differ in their seed alone: the value of `key` (None where it is no key or the
    seed), what else is swept in words, and the cells; in the order of the values."""
    along = key if key != "seed" else None
    found: list[tuple[Any, str, list[Cell]]] = []
    for value in [None] if along is None else values_of(along, cells):
        for label, line in series(cells, along or "").items():
            members = [one for one in line if along is None or one.values.get(along) == value]
            if members:
                found.append((value, label, members))
    return found


def baseline(key: str, cells: Sequence[Cell]) -> Any:
    """The value that the others are compared with: the dense twin, or one of words. None where
    there is nothing to compare, or numbers have a curve instead."""
    values = values_of(key, cells)
    named = [value for value in values if value in BASELINES.get(key, ())]
    if len(values) < 2 or (is_numeric(values) and not named):
        return None
    return (named or values)[0]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a study compares: along `key`, each value with `reference`. None where it does not."""

    key: str | None
    reference: Any

    @classmethod
    def of(cls, study: StudyConfig, swept: Sequence[str], cells: Sequence[Cell]) -> "Comparison":
        """What the study says of itself, or what its swept keys suggest."""
        key = study.compares
        if key is None or len(values_of(key, cells)) < 2:
            key = axis_key(swept, cells)
            return cls(key=key, reference=baseline(key, cells) if key and key != "seed" else None)
        wanted = None if study.baseline is None else study.baseline.lower()
        named = [value for value in values_of(key, cells) if str(value).lower() == wanted]
        return cls(key=key, reference=named[0] if named else baseline(key, cells))


def lowest(cells: Sequence[Cell], key: str) -> tuple[Any, float] | None:
    """The value of `key` with the lowest mean held-out loss over the seeds, and that loss."""
    losses: dict[Any, list[float]] = {}
    for cell in cells:
        loss = cell.loss("mean")
        if loss is not None and key in cell.values:
            losses.setdefault(cell.values[key], []).append(loss)
    means = {value: float(np.mean(found)) for value, found in losses.items()}
    return min(means.items(), key=lambda item: item[1]) if means else None


def differences(cells: Sequence[Cell], key: str, reference: Any, domain: str) -> list[Difference]:
    """Every value of `key` against `reference` within one series, paired by seed."""
    losses: dict[Any, dict[Any, float]] = {}
    for cell in cells:
        loss = cell.loss(domain)
        if loss is not None and key in cell.values:
            losses.setdefault(cell.values[key], {})[cell.seed] = loss
    against = losses.pop(reference, {})
    found: list[Difference] = []
    for value in values_of(key, cells):
        mine = losses.get(value, {})
        paired = [loss - against[seed] for seed, loss in mine.items() if seed in against]
        if paired:
            found.append(
                Difference(
                    value=value,
                    mean=float(np.mean(paired)),
                    interval=interval(paired),
                    paired=tuple(paired),
                )
            )
    return found


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's t interval of the mean of independent `values`; None for fewer than two."""
    if len(values) < 2:
        return None
    half = (
        float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
        * float(np.std(values, ddof=1))
        / math.sqrt(len(values))
    )
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def gain_per_doubling(cells: Sequence[Cell], domain: str) -> list[float]:
    """By seed, the slope of loss against log2 of the number of experts (least squares through the
    seed's own cells): what one doubling brings, in nats. Seeds with fewer than three cells tell
    nothing."""
    by_seed: dict[Any, list[tuple[float, float]]] = {}
    for cell in cells:
        loss = cell.loss(domain)
        if loss is not None and EXPERTS in cell.values:
            point = (math.log2(cell.values[EXPERTS]), loss)
            by_seed.setdefault(cell.seed, []).append(point)
    slopes: list[float] = []
    for points in by_seed.values():
        x = np.array([place for place, _ in points])
        y = np.array([loss for _, loss in points])
        if len(set(x.tolist())) >= 3:
            away = x - x.mean()
            slopes.append(float(away @ y / (away @ away)))
    return slopes
