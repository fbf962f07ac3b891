"""The table of a study's paired differences, as `experiments.paired` prints it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from glam.analysis.paired import Comparison, Contrast
from glam.reporting.study_figures import label_of
from glam.reporting.study_words import reference_words
from glam.units import DASH, counted, fixed, signed


class Words(NamedTuple):
    """What a table's differences are of."""

    title: str
    note: str
    families: tuple[str, str]  # tested together: the means, and the others


LOSSES = Words(
    "Differences to",
    "Held-out loss minus that of the baseline with the same seed, in nats per token; negative "
    "is better.",
    ("of the mean", "of domains"),
)
TASKS = Words(
    "Differences in tasks to",
    "Score minus that of the baseline with the same seed, on the same items; positive is better.",
    ("of the mean", "of tasks"),
)


def table(
    compared: Comparison, found: Sequence[Contrast], words: Words = LOSSES
) -> dict[str, Any] | None:
    """A row a value (in each series), a column a domain or a task; None where nothing is
    compared."""
    if compared.key is None or not found:
        return None
    names = list(dict.fromkeys(one.domain for one in found))
    rows: dict[tuple[str, Any], dict[str, Contrast]] = {}
    for one in found:
        rows.setdefault((one.label, one.difference.value), {})[one.domain] = one
    return {
        "title": f"{words.title} {reference_words(compared.key, compared.reference)}",
        "key": label_of(compared.key),
        "domains": names,
        "rows": [
            {"value": value, "label": label, "texts": [difference(row.get(n)) for n in names]}
            for (label, value), row in rows.items()
        ],
        "note": _note(found, words),
    }


def _note(found: Sequence[Contrast], words: Words) -> str:
    counts = {one.domain == "mean": one.test.comparisons for one in found}
    of_mean, of_each = words.families
    families = " or ".join(
        f"the {counted(n, 'difference')} {of_mean if is_mean else of_each}"
        for is_mean, n in counts.items()
    )
    return (
        f"{words.note} ± is half of the 95 % t interval of the difference alone. *: significant at "
        f"5 % after Holm’s correction, over {families}."
    )


def difference(one: Contrast | None) -> str:
    """Mean, half of its interval, and a star where it is significant."""
    if one is None:
        return DASH
    mean, around = signed(one.difference.mean), one.difference.interval
    if around is None:
        return mean
    return f"{mean} ± {fixed((around[1] - around[0]) / 2)}{'*' if one.test.is_significant else ''}"
