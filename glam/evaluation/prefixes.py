"""Texts that begin alike, as a tree: what they share is computed once.

Few-shot prompts are nearly equal: the choices of an item follow the same context, and where
demonstrations are the same for all items so does everything before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

LEAST = 4  # tokens that are worth a segment of their own

Tokens = tuple[int, ...]


@dataclass(eq=False)
class Segment:
    """Tokens that follow those of `parent`."""

    tokens: Tokens
    parent: "Segment | None"
    is_leaf: bool = True  # nothing follows

    @property
    def start(self) -> int:
        """How many tokens come before."""
        return 0 if self.parent is None else self.parent.end

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    @property
    def level(self) -> int:
        """How many segments come before."""
        return 0 if self.parent is None else self.parent.level + 1


def segments(texts: Sequence[Tokens]) -> dict[Tokens, Segment]:
    """The last segment of each text, in sorted order. `texts` are sorted, different and not
    empty."""
    last: dict[Tokens, Segment] = {}
    todo: list[tuple[Sequence[Tokens], Segment | None, int]] = [(texts, None, 0)]
    while todo:
        group, parent, start = todo.pop()
        shared = common_prefix(group[0], group[-1])
        if parent is not None and len(group) == 1 and len(group[0]) == start:
            last[group[0]] = parent
            continue
        if len(group) == 1 or shared - start >= LEAST:
            parent, start = _follow(group[0][start:shared], parent), shared
        if len(group) == 1 and parent is not None:
            last[group[0]] = parent
            continue
        # Sorted: texts of the same next token lie side by side, one without any comes first.
        next_token = itemgetter(slice(shared, shared + 1))
        branches = [list(branch) for _, branch in groupby(group, next_token)]
        todo += [(branch, parent, start) for branch in reversed(branches)]
    return last


def _follow(tokens: Tokens, parent: Segment | None) -> Segment:
    if parent is not None:
        parent.is_leaf = False
    return Segment(tokens, parent)


def by_level(last: dict[Tokens, Segment]) -> list[list[Segment]]:
    """Every segment once, parents before children."""
    found: dict[Segment, None] = {}
    for segment in last.values():
        node: Segment | None = segment
        while node is not None and node not in found:
            found[node] = None
            node = node.parent
    levels: dict[int, list[Segment]] = {}
    for segment in found:
        levels.setdefault(segment.level, []).append(segment)
    return [levels[level] for level in sorted(levels)]


def common_prefix(one: Tokens, other: Tokens) -> int:
    """How many tokens two texts begin with alike."""
    short = min(len(one), len(other))
    if one[:short] == other[:short]:
        return short
    low, high = 0, short  # they agree up to low, and differ before high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle)
    return low


def chunks(texts: Sequence[Tokens], most: int) -> Iterator[Sequence[Tokens]]:
    """Sorted texts in runs of about `most` tokens, each that is shared counted once."""
    first, size = 0, 0
    for place, text in enumerate(texts):
        size += len(text) - (common_prefix(texts[place - 1], text) if place > first else 0)
        if size >= most:
            yield texts[first : place + 1]
            first, size = place + 1, 0
    if first < len(texts):
        yield texts[first:]
