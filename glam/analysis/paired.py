"""Paired differences between the runs of a study: runs that share their seed are compared.

A difference has Student's t interval over the seeds. Where several are tested, Holm's procedure
decides which are significant (S. Holm, 1979): `corrected` is the one place of it, for the page of a
study and for `experiments.paired`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy.special import (  # pyright: ignore[reportMissingTypeStubs]
    stdtr,  # pyright: ignore[reportUnknownVariableType]
    stdtrit,  # pyright: ignore[reportUnknownVariableType]
)

from glam.config import StudyConfig
from glam.runs.record import mapping
from glam.units import is_number

K = TypeVar("K")
EXPERTS = "model.num_experts"
CONFIDENCE = 0.95
# The value that the others of its key are compared with. Other words: the first; numbers: none.
BASELINES: dict[str, tuple[Any, ...]] = {
    EXPERTS: (1,),  # the dense twin
    "data": ("unfiltered",),
    "data.filter.name": ("none",),
}


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One run of a study, as a row of its table."""

    run: str
    values: dict[str, Any]
    status: str
    summary: dict[str, Any]  # empty until the run is done
    error: str
    progress: dict[str, Any]  # of a run that is running: stage, done, total

    @classmethod
    def of(cls, row: dict[str, Any]) -> "StudyRow":
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
        """A nested mapping of the summary; empty where there is none."""
        return mapping(self.summary.get(name))


def _scalar(value: Any) -> Any:
    """A value that can be compared and looked up: a list or a mapping becomes its text."""
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Loss of `value` minus loss of the baseline: mean over the seeds that both have, and its
    own 95 % interval, as if nothing else were tested (None with one seed)."""

    value: Any
    mean: float
    interval: tuple[float, float] | None
    paired: tuple[float, ...]  # one difference a seed

    @property
    def num_seeds(self) -> int:
        return len(self.paired)


def domains(cells: Sequence[StudyRow]) -> list[str]:
    """ "mean", then every domain that any row was measured on."""
    names = dict.fromkeys(name for cell in cells for name in cell.part("loss"))
    return ["mean", *(name for name in names if name != "mean")] if names else []


def axis_key(swept: Sequence[str], cells: Sequence[StudyRow]) -> str | None:
    """The key on the x axis of the figures: the number of experts, else the first key with several
    values; the seed only when nothing else is swept. None where no key is."""
    varied = [key for key in swept if len(values_of(key, cells)) > 1] or list(swept)
    for key in (EXPERTS, *(k for k in varied if k != "seed"), "seed"):
        if key in varied:
            return key
    return None


def values_of(key: str, cells: Sequence[StudyRow]) -> list[Any]:
    """The values that `key` takes: numbers sorted, words in the order of the rows."""
    found: list[Any] = []
    for cell in cells:
        if key in cell.values and cell.values[key] not in found:
            found.append(cell.values[key])
    return sorted(found) if is_numeric(found) else found


def is_numeric(values: Sequence[Any]) -> bool:
    """Whether all values are finite numbers; `True` and `False` are none."""
    return all(is_number(value) and not isinstance(value, bool) for value in values)


def series(cells: Sequence[StudyRow], key: str) -> dict[str, list[StudyRow]]:
    """Rows by the values of the other swept keys (`key` and the seed left out), each group one line
    of a figure."""
    lines: dict[str, list[StudyRow]] = {}
    for cell in cells:
        others = {k: v for k, v in cell.values.items() if k not in (key, "seed")}
        label = ", ".join(f"{k.rpartition('.')[2]} {in_words(v)}" for k, v in others.items())
        lines.setdefault(label, []).append(cell)
    return lines


def in_words(value: Any) -> str:
    """A swept value: large whole numbers with their thousands apart."""
    return f"{value:,}" if type(value) is int else str(value)


def combinations(
    cells: Sequence[StudyRow], key: str | None
) -> list[tuple[Any, str, list[StudyRow]]]:
    """Rows that differ in their seed alone, sorted by the value of `key`: that value (None without
    a key, or for the seed), the values of the other swept keys in words, and the rows."""
    along = key if key != "seed" else None
    found: list[tuple[Any, str, list[StudyRow]]] = []
    for value in [None] if along is None else values_of(along, cells):
        for label, line in series(cells, along or "").items():
            members = [one for one in line if along is None or one.values.get(along) == value]
            if members:
                found.append((value, label, members))
    return found


def baseline(key: str, cells: Sequence[StudyRow]) -> Any:
    """The value that the others are compared with: the dense twin, or a word. None with fewer than
    two values, and for numbers, which have a curve instead."""
    values = values_of(key, cells)
    named = [value for value in values if value in BASELINES.get(key, ())]
    if len(values) < 2 or (is_numeric(values) and not named):
        return None
    return (named or values)[0]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a study compares: each value of `key` with `reference`; None where it compares none."""

    key: str | None
    reference: Any

    @classmethod
    def of(
        cls, study: StudyConfig, swept: Sequence[str], cells: Sequence[StudyRow]
    ) -> "Comparison":
        """From `study.compares` and `study.baseline`, else from the swept keys."""
        key = study.compares
        if key is None or len(values_of(key, cells)) < 2:
            key = axis_key(swept, cells)
            return cls(key=key, reference=baseline(key, cells) if key and key != "seed" else None)
        wanted = None if study.baseline is None else study.baseline.lower()
        named = [value for value in values_of(key, cells) if str(value).lower() == wanted]
        return cls(key=key, reference=named[0] if named else baseline(key, cells))


def lowest(cells: Sequence[StudyRow], key: str) -> tuple[Any, float] | None:
    """The value of `key` with the lowest mean held-out loss over the seeds, and that loss."""
    losses: dict[Any, list[float]] = {}
    for cell in cells:
        loss = cell.loss("mean")
        if loss is not None and key in cell.values:
            losses.setdefault(cell.values[key], []).append(loss)
    means = {value: float(np.mean(found)) for value, found in losses.items()}
    return min(means.items(), key=lambda item: item[1]) if means else None


def differences(
    cells: Sequence[StudyRow], key: str, reference: Any, domain: str
) -> list[Difference]:
    """Every value of `key` against `reference` within one series, paired by seed; values without a
    pair are left out."""
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


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A difference to the baseline and its test among all of the study's; `label` names the values
    of the other swept keys."""

    label: str
    domain: str
    difference: Difference
    test: "Tested"


def contrasts(cells: Sequence[StudyRow], compared: Comparison) -> list[Contrast]:
    """Every value against the baseline, in every series and on every domain; tested together."""
    key, reference = compared.key, compared.reference
    if key is None or reference is None:
        return []
    found = {
        ((label, one.value), domain): one
        for label, members in series(cells, key).items()
        for domain in domains(cells)
        for one in differences(members, key, reference, domain)
    }
    tests = corrected({where: one.paired for where, one in found.items()})
    return [
        Contrast(label=where[0][0], domain=where[1], difference=one, test=tests[where])
        for where, one in found.items()
    ]


def p_value(values: Sequence[float]) -> float:
    """Two-sided, of Student's t against zero; 1 for a single value and where all are 0."""
    n = len(values)
    if n < 2 or not any(values):
        return 1.0
    spread = float(np.std(values, ddof=1)) / math.sqrt(n)
    if spread == 0:
        return 0.0
    return 2 * float(stdtr(n - 1, -abs(float(np.mean(values))) / spread))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: the smallest times their number, the next times one fewer, …, and none
    smaller than the one before it (S. Holm, 1979)."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(_by_size(p_values)):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, highest)
    return adjusted


def _by_size(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=p_values.__getitem__)


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A mean difference tested against zero as one of `comparisons`, by Holm's procedure.
    `confidence` is that at which the procedure tests it, so that its `interval` (None with one
    seed) leaves zero out if and only if it is significant."""

    comparisons: int
    p: float  # Holm's adjusted p-value
    confidence: float
    interval: tuple[float, float] | None

    @property
    def is_significant(self) -> bool:
        return self.p < 1 - CONFIDENCE


def holm_tests(family: Sequence[Sequence[float]]) -> list[Tested]:
    """Differences (one a seed) that are tested together. The procedure goes from the smallest
    p-value up, each step divides 5 % by the comparisons left, and it stops at the first that is not
    significant: the rest are held against that step's level."""
    p_values = [p_value(values) for values in family]
    adjusted = holm(p_values)
    found: dict[int, Tested] = {}
    left, stopped = len(family), False
    for index in _by_size(p_values):
        confidence = 1 - (1 - CONFIDENCE) / left
        around = interval(family[index], confidence)
        found[index] = Tested(
            comparisons=len(family), p=adjusted[index], confidence=confidence, interval=around
        )
        stopped = stopped or not found[index].is_significant
        left -= not stopped
    return [found[index] for index in range(len(family))]


def corrected(paired: Mapping[tuple[K, str], Sequence[float]]) -> dict[tuple[K, str], Tested]:
    """Tests of the differences by (comparison, domain). The mean over the domains, the one question
    asked beforehand, is corrected over the comparisons alone; the domains together, over all."""
    found: dict[tuple[K, str], Tested] = {}
    for is_mean in (True, False):
        family = [where for where in paired if _is_mean(where[1]) == is_mean]
        found |= zip(family, holm_tests([paired[where] for where in family]), strict=True)
    return found


def _is_mean(domain: str) -> bool:
    return domain.removeprefix("loss/") == "mean"


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Student's t interval of the mean of independent `values`; None for fewer than two."""
    if len(values) < 2:
        return None
    half = (
        float(stdtrit(len(values) - 1, (1 + confidence) / 2))
        * float(np.std(values, ddof=1))
        / math.sqrt(len(values))
    )
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def gain_per_doubling(cells: Sequence[StudyRow], domain: str) -> list[float]:
    """The change of the loss by one doubling of the experts, in nats, one number a seed: the slope
    of a least-squares line through the seed's own runs against log2 of the number of experts. Seeds
    with fewer than three numbers of experts are left out."""
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
