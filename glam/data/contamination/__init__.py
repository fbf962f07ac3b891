"""Overlap of training text with evaluation sets, n-gram by n-gram (docs/contamination.md).

items = EvaluationItems.of("arc_easy", [EvaluationItem("arc_easy", 0, ("Which of these …",))])
found = overlap(prepared.texts, [items])
found.tasks[0].dirty  # [items]: whether an n-gram of the item stands in the training text
"""

from glam.data.contamination.hits import Hits, contamination_hits
from glam.data.contamination.items import EvaluationItem, EvaluationItems
from glam.data.contamination.ngrams import ItemNgrams, item_ngrams
from glam.data.contamination.overlap import COMMON, Overlap, overlap_of
from glam.data.contamination.stages import (
    HELD_OUT,
    HELD_OUT_DOCUMENTS,
    held_out_items,
    overlap,
    overlapping,
)

__all__ = [
    "COMMON",
    "HELD_OUT",
    "HELD_OUT_DOCUMENTS",
    "EvaluationItem",
    "EvaluationItems",
    "Hits",
    "ItemNgrams",
    "Overlap",
    "contamination_hits",
    "held_out_items",
    "item_ngrams",
    "overlap",
    "overlap_of",
    "overlapping",
]
