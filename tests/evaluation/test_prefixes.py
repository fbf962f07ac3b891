"""What texts have in common is found once, and nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st

from glam.evaluation.prefixes import LEAST, by_level, chunks, common_prefix, segments

texts = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=14).map(tuple),
    min_size=1,
    max_size=12,
    unique=True,
).map(sorted)


def whole(segment):
    before = () if segment.parent is None else whole(segment.parent)
    assert segment.start == len(before)
    return before + segment.tokens


@given(texts)
def test_the_segments_of_a_text_are_the_text(texts):
    last = segments(texts)
    assert {text: whole(segment) for text, segment in last.items()} == {t: t for t in texts}


@given(texts)
def test_a_segment_is_computed_before_those_that_follow_it_and_once(texts):
    levels = by_level(segments(texts))
    order = [segment for level in levels for segment in level]
    assert len(set(order)) == len(order)
    for place, segment in enumerate(order):
        assert segment.parent is None or segment.parent in order[:place]
        assert segment.is_leaf == all(other.parent is not segment for other in order)


def test_what_is_shared_is_computed_once():
    context = tuple(range(20))
    demonstrations = tuple(range(100, 130))
    texts = sorted(
        demonstrations + context[:end] + choice
        for end in (10, 20)
        for choice in [(40, 41), (50,), (60, 61, 62)]
    )
    order = [s for level in by_level(segments(texts)) for s in level]
    assert sum(len(segment.tokens) for segment in order) == 30 + 10 + 10 + 2 * 6
    assert sum(map(len, texts)) == 282


def test_a_few_tokens_in_common_are_worth_no_segment():
    head = tuple(range(LEAST - 1))
    order = by_level(segments([(*head, 7, 7), (*head, 8)]))
    assert [len(level) for level in order] == [2]


@given(texts, st.integers(1, 40))
def test_chunks_are_the_texts_in_their_order(texts, most):
    assert [text for chunk in chunks(texts, most) for text in chunk] == texts


@given(st.lists(st.integers(0, 1), max_size=9), st.lists(st.integers(0, 1), max_size=9))
def test_the_common_prefix_is_what_both_begin_with(one, other):
    found = common_prefix(tuple(one), tuple(other))
    assert one[:found] == other[:found]
    assert found == min(len(one), len(other)) or one[found] != other[found]
