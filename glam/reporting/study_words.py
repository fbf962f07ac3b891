"""A study in sentences: how much of it there is, and what it found, with numbers."""

import itertools
from collections.abc import Sequence
from typing import Any

from glam.analysis.paired import (
    CONFIDENCE,
    EXPERTS,
    Comparison,
    Contrast,
    StudyRow,
    Tested,
    gain_per_doubling,
    holm_tests,
    lowest,
    series,
    values_of,
)
from glam.reporting.study_figures import label_of
from glam.units import SPACE, counted, fixed, signed

MOST_ABSENT = 12
MOST_SERIES = 4  # that have a sentence each


def sentence(cells: Sequence[StudyRow], swept: Sequence[str]) -> str:
    """The runs of the study, counted by status."""
    states = [cell.status for cell in cells]
    count = counted(len(cells), "run")
    parts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    over = [f"{label_of(key)} ({len(values_of(key, cells))})" for key in swept]
    ending = f", over {' and '.join(over)}" if over else ""
    return f"{count}{ending}: {parts}." if parts else f"{count}{ending}."


def finding(
    cells: Sequence[StudyRow],
    compared: Comparison,
    found: Sequence[Contrast],
    budget: str | None = None,
) -> list[str]:
    """Sentences on the mean held-out loss; each difference with its test (`glam.analysis.paired`),
    none of a study without a comparison."""
    key, reference = compared.key, compared.reference
    if key is None or key == "seed":
        return []
    if reference is None:
        return _lowest(cells, key)
    means = [one for one in found if one.domain == "mean"]
    lines = series(cells, key)
    if len(lines) > MOST_SERIES:
        return _over_all(means, key, reference)
    said: list[str] = []
    for label, members in lines.items():
        where = f" ({label})" if label else ""
        mine = [one for one in means if one.label == label]
        words = _compared(members, mine, key, reference, budget)
        said += [f"{line}{where}." for line in words]
    return said


def _over_all(means: Sequence[Contrast], key: str, reference: Any) -> list[str]:
    """A sentence for every value, over all combinations of the other swept keys."""
    said: list[str] = []
    for value in dict.fromkeys(one.difference.value for one in means):
        mine = [one for one in means if one.difference.value == value]
        losses = [one.difference.mean for one in mine]
        significant = sum(one.test.is_significant for one in mine)
        said.append(
            f"Mean held-out loss with {label_of(key)} {value} against {reference}: from "
            f"{signed(min(losses))} to {signed(max(losses))} nats over {len(mine)} combinations of "
            f"the other swept keys, {significant} of them significant."
        )
    return said


def _lowest(cells: Sequence[StudyRow], key: str) -> list[str]:
    """Of a study without a baseline: nothing is tested."""
    lines = series(cells, key)
    if len(lines) > MOST_SERIES:
        return []
    said: list[str] = []
    for label, members in lines.items():
        if (best := lowest(members, key)) is not None:
            where = f" ({label})" if label else ""
            said.append(
                f"Lowest mean held-out loss: {fixed(best[1])} at {label_of(key)} {best[0]}{where}."
            )
    name = f"study.compares={key} study.baseline=<value>"
    return [*said, f"No difference is tested; {name} tests each value against that one."] * bool(
        said
    )


def _compared(
    cells: Sequence[StudyRow],
    means: Sequence[Contrast],
    key: str,
    reference: Any,
    budget: str | None,
) -> list[str]:
    if not means:
        return []
    best = min(means, key=lambda one: one.difference.mean)
    said = [_best(best, key, reference, _terms(cells, key, budget))]
    slopes = gain_per_doubling(cells, "mean") if key == EXPERTS else []
    if slopes:
        mean = signed(sum(slopes) / len(slopes), 4)
        [test] = holm_tests([slopes])
        said.append(
            f"Each doubling of the experts changes it by {mean} nats{_interval(test, 4)}, by a "
            f"straight line through the runs of each seed{_verdict(test)}"
        )
    return said


def _best(best: Contrast, key: str, reference: Any, terms: str) -> str:
    one = best.difference
    seeds = counted(one.num_seeds, "seed")
    change = f"{signed(one.mean)} nats{_interval(best.test)}"
    if not is_dense(key, reference):
        return (
            f"Mean held-out loss with {label_of(key)} {one.value} against {reference}{terms}: "
            f"{change}, {seeds}{_verdict(best.test)}"
        )
    return (
        f"With {counted(one.value, 'expert')} the mean held-out loss differs from the dense twin’s "
        f"by {change}{terms}, {seeds}{_verdict(best.test)}"
    )


def difference_of(one: Contrast) -> str:
    """A difference with its interval, its seeds and its verdict."""
    seeds = counted(one.difference.num_seeds, "seed")
    return f"{signed(one.difference.mean)}{_interval(one.test)}, {seeds}{_verdict(one.test)}"


def _verdict(test: Tested) -> str:
    if test.interval is None:
        return ", not tested: an interval needs at least two seeds"
    return ", significant" if test.is_significant else ", not significant"


def _interval(test: Tested, digits: int = 3) -> str:
    """The interval at the confidence at which the difference is tested."""
    if test.interval is None:
        return ""
    low, high = (signed(end, digits) for end in test.interval)
    level = f"{100 * test.confidence:.3g}{SPACE}% interval {low} to {high}"
    if test.confidence > CONFIDENCE:
        level += f", by Holm’s correction for {counted(test.comparisons, 'comparison')}"
    return f" ({level})"


def _terms(cells: Sequence[StudyRow], key: str, budget: str | None) -> str:
    """What the compared runs have in common: the budget that the study checks, where kept."""
    if not equal_tokens(cells):
        return " at equal training FLOPs" if budget == "flops" else ""
    if key == EXPERTS or budget == "flops":
        return " at equal training tokens and FLOPs per token"
    return " at equal training tokens" if budget == "tokens" else ""


def equal_tokens(cells: Sequence[StudyRow]) -> bool:
    """Whether all runs that are summarised trained on equally many tokens."""
    return len({cell.summary.get("tokens") for cell in cells if cell.summary}) == 1


def is_dense(key: str, reference: Any) -> bool:
    """Whether the baseline is the dense twin."""
    return key == EXPERTS and reference == 1


def reference_words(key: str, reference: Any) -> str:
    """The baseline by name."""
    return "the dense twin" if is_dense(key, reference) else f"{label_of(key)} {reference}"


def absent(cells: Sequence[StudyRow], swept: Sequence[str]) -> list[str]:
    """Combinations of the swept values that no run of the study has."""
    present = [[cell.values.get(key) for key in swept] for cell in cells]
    every = itertools.product(*(values_of(key, cells) for key in swept))
    missing = [list(one) for one in every if list(one) not in present]
    lines = [
        ", ".join(f"{label_of(k)} {v}" for k, v in zip(swept, one, strict=True))
        for one in missing[:MOST_ABSENT]
    ]
    rest = len(missing) - MOST_ABSENT
    return [*lines, f"and {rest} more"] if rest > 0 else lines
