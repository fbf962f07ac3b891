"""The table of a study's paired differences, as `experiments.paired` prints it."""

from collections.abc import Sequence
from typing import Any

from glam.analysis.paired import Comparison, Contrast
from glam.reporting.study_figures import label_of
from glam.reporting.study_words import reference_words
from glam.units import DASH, counted, fixed, signed


def table(compared: Comparison, found: Sequence[Contrast]) -> dict[str, Any] | None:
    """A row a value (in each series), a column a domain; None where nothing is compared."""
    if compared.key is None or not found:
        return None
    names = list(dict.fromkeys(one.domain for one in found))
    rows: dict[tuple[str, Any], dict[str, Contrast]] = {}
    for one in found:
        rows.setdefault((one.label, one.difference.value), {})[one.domain] = one
    return {
        "title": f"Differences to {reference_words(compared.key, compared.reference)}",
        "key": label_of(compared.key),
        "domains": names,
        "rows": [
            {"value": value, "label": label, "texts": [difference(row.get(n)) for n in names]}
            for (label, value), row in rows.items()
        ],
        "note": _note(found),
    }


def _note(found: Sequence[Contrast]) -> str:
    words = (
        "Held-out loss minus that of the baseline with the same seed, in nats per token; negative "
        "is better. ± is half of the 95 % t interval of the difference alone."
    )
    counts = {one.domain == "mean": one.test.comparisons for one in found}
    of = {False: "of domains", True: "of the mean"}
    families = " or ".join(f"the {counted(n, 'difference')} {of[key]}" for key, n in counts.items())
    return f"{words} *: significant at 5 % after Holm’s correction, over {families}."


def difference(one: Contrast | None) -> str:
    """Mean, half of its interval, and a star where it is significant."""
    if one is None:
        return DASH
    mean, around = signed(one.difference.mean), one.difference.interval
    if around is None:
        return mean
    return f"{mean} ± {fixed((around[1] - around[0]) / 2)}{'*' if one.test.is_significant else ''}"
