"""Tasks of a study, item by item: each value of the compared key against the baseline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glam.analysis.items import ItemDifference, Models, item_differences
from glam.analysis.paired import Comparison, StudyRow, series, values_of
from glam.reporting.study_figures import label_of
from glam.reporting.study_words import reference_words
from glam.reporting.tasks import NOTE, difference
from glam.runs.evaluations import SavedSuiteItems, read_items
from glam.units import counted, fixed, whole


def table(cells: Sequence[StudyRow], compared: Comparison, runs: Path) -> dict[str, Any] | None:
    """What the template shows; None where no two values were judged on the same items. `runs` is
    the folder of the runs."""
    key, reference = compared.key, compared.reference
    if key is None or reference is None:
        return None
    pairs = {
        f"{value}{label}, {suite}": pair
        for suite in dict.fromkeys(name for cell in cells for name in cell.part("tasks"))
        for label, members in series(cells, key).items()
        for value in values_of(key, members)
        if value != reference and (pair := _pair(members, key, reference, value, suite, runs))
    }
    found = item_differences(pairs)
    rows = [_row(name, one, pairs[name]) for name, each in found.items() for one in each]
    if not rows:
        return None
    against = reference_words(key, reference)
    titles = [label_of(key), "task", "items", "seeds", against, "score", "difference"]
    return {
        "title": f"Differences in items to {against}",
        "name": "",
        "titles": [*titles, "smallest", "adjusted p"],
        "rows": rows,
        "lines": [
            f"Scores are means over the seeds that both have, so an interval is over items, for "
            f"these runs: it says nothing of other seeds. {NOTE}"
        ],
    }


def _pair(
    members: Sequence[StudyRow], key: str, reference: Any, value: Any, suite: str, runs: Path
) -> tuple[Models, Models] | None:
    """The items of the baseline's runs and of those at `value`, of the seeds that both have."""
    of_first = _by_seed(members, key, reference, suite, runs)
    of_second = _by_seed(members, key, value, suite, runs)
    seeds = [seed for seed in of_first if seed in of_second]
    if not seeds:
        return None
    return [of_first[seed] for seed in seeds], [of_second[seed] for seed in seeds]


def _by_seed(
    members: Sequence[StudyRow], key: str, value: Any, suite: str, runs: Path
) -> dict[Any, SavedSuiteItems]:
    chosen = [cell for cell in members if cell.values.get(key) == value]
    return {
        cell.seed: items
        for cell in chosen
        if suite in cell.part("tasks") and (items := read_items(runs / cell.run, suite)) is not None
    }


def _row(name: str, one: ItemDifference, pair: tuple[Models, Models]) -> list[str]:
    task = ", ".join(filter(None, (one.task, one.column)))
    scores = (fixed(one.first), fixed(one.second))
    seeds = counted(len(pair[0]), "seed")
    smallest, p = fixed(one.smallest), fixed(one.adjusted)
    return [name, task, whole(one.items), seeds, *scores, difference(one), smallest, p]
