"""Whether the runs of a study were computed on machines that round alike."""

from collections import Counter
from collections.abc import Sequence

from glam.analysis.paired import StudyRow
from glam.runs.machine import deciding, in_words, segments


def machine_words(cells: Sequence[StudyRow]) -> list[str]:
    """By cell, the processor and kernels that its run was computed on (`A, then B` for one that
    moved); empty where its summary does not say."""
    known = [segments(cell.part("machine")) if cell.part("machine") else [] for cell in cells]
    every = {deciding(one): one for part in known for one in part}
    words = dict(zip(every, in_words(list(every.values())), strict=True))
    return [", then ".join(words[deciding(one)] for one in part) for part in known]


def unlike_machines(cells: Sequence[StudyRow]) -> str:
    """The sentence of a study whose runs were computed on unlike processors or kernels; empty
    where all were on like ones, or do not say."""
    counts = Counter(words for words in machine_words(cells) if words)
    if len(counts) < 2:
        return ""
    parts = "; ".join(f"{count} on {words}" for words, count in counts.items())
    return (
        f"These runs were computed on unlike processors or kernels, which round differently: "
        f"{parts}."
    )
