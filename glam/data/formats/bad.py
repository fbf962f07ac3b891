"""What may be wrong with a record, in the words by which it is counted."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from glam.config import BadRecord
from glam.errors import UserError
from glam.units import in_message, percent

NOT_UTF8 = "not UTF-8"
NOT_JSON = "not JSON"
NOT_CSV = "not CSV"
NOT_WET = "not WET"
NOT_OBJECT = "no JSON object"
NO_FIELD = "without the text's field"
NOT_TEXT = "text that is no string"
NO_SCORE = "without a score"
TOO_LONG = "too long"
EMPTY = "empty"  # counted as the others, and no fault of the files

# Bytes that are not UTF-8, where `surrogateescape` has let them into text.
ESCAPED = re.compile("[\udc80-\udcff]")
KEPT = 1_000  # bytes of a bad record that are set aside


def bad(kind: str, path: Path, at: int | None, content: bytes = b"", count: int = 1) -> BadRecord:
    """A bad record at line (row) `at` of a file; None where it is the file as a whole."""
    place = str(path) if at is None else f"{path}:{at}"
    return BadRecord(kind, place, bytes(content[:KEPT]), count)


def damaged(path: Path) -> str:
    """The kind of what could not be unpacked, or is no parquet: "damaged .gz"."""
    return f"damaged {path.suffix}"


def check_share(
    name: str, records: int, counts: Mapping[str, int], first: str, most_share: float
) -> None:
    """Raises UserError where more than a share of the `records` of domain `name` are bad. `counts`
    are of bad ones by kind; `first` is the place of the first. Empty ones are no fault."""
    faults = {kind: count for kind, count in counts.items() if kind != EMPTY and count}
    total = sum(faults.values())
    if total <= most_share * records:
        return
    allowed = min(1.0, math.ceil(100 * total / records) / 100)
    some_are_good = f"set data.corpus.max_bad_share={allowed:g}"
    raise UserError(
        f"data.corpus.max_bad_share={most_share:g} but {total:,} of {records:,} records of "
        f"{name} are no documents ({in_message(percent(total / records))}: {in_words(faults)}; the "
        f"first is {first}); mend them, or {some_are_good if total < records else 'leave them out'}"
    )


def in_words(counts: Mapping[str, int]) -> str:
    """Counts of bad records by kind, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{count:,} {kind}" for kind, count in ordered)
