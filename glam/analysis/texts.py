"""Whether the runs of a study were trained on the text that their names for it say they share."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from glam.analysis.paired import StudyRow

SHOWN = 4  # runs in the sentence


def unlike_texts(cells: Sequence[StudyRow]) -> str:
    """The sentence of a study in which runs with equal keys of `data` were trained on unlike
    texts; empty where none were, or do not say."""
    others = list(dict.fromkeys(run for group in _alike(cells) for run in _outside(group)))
    if not others:
        return ""
    shown = ", ".join(others[:SHOWN]) + (", …" if len(others) > SHOWN else "")
    return (
        f"These runs were trained on other text than the rest, under the same names, so their "
        f"losses do not compare with the others': {shown}."
    )


def _alike(cells: Sequence[StudyRow]) -> Iterator[dict[str, str]]:
    """Runs that should have one fingerprint, each with the one it has: of the text where the keys
    of `data` are equal; of its tokens, which a run has always recorded, where all but the seed
    are."""
    groups: defaultdict[tuple[Any, ...], dict[str, str]] = defaultdict(dict)
    for cell in cells:
        data = {key: value for key, value in cell.values.items() if key.startswith("data")}
        keys = {key: value for key, value in cell.values.items() if key != "seed"}
        for name, alike in (("text_fingerprint", data), ("data_fingerprint", keys)):
            if found := cell.summary.get(name):
                groups[name, *sorted(map(str, alike.items()))][cell.run] = str(found)
    yield from groups.values()


def _outside(fingerprints: dict[str, str]) -> list[str]:
    """The runs that have another fingerprint than most."""
    usual = Counter(fingerprints.values()).most_common(1)[0][0]
    return [run for run, found in fingerprints.items() if found != usual]
