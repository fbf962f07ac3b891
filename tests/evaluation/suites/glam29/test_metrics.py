"""Scores worked out by hand."""

import pytest

from glam.evaluation.suites.glam29.metrics import (
    agreement,
    best,
    drop,
    exact,
    exact_trivia,
    f1,
    leave_one_out,
    normalize,
    normalize_trivia,
)


def test_case_articles_marks_and_spaces_do_not_count():
    assert normalize("  The  Old-Mill, an inn ") == "oldmill inn"
    assert exact("the Danube.", "Danube") == 1
    assert exact("Danubes", "Danube") == 0
    assert exact("theatre", "atre") == 0  # an article is a word of its own


def test_trivias_marks_become_spaces():
    assert normalize_trivia("Oak-tree_of the ‘King’") == "oak tree of king"
    assert exact_trivia("oak tree", "Oak-tree") == 1
    assert exact("oak tree", "Oak-tree") == 0


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [
        ("a white bear", "white bear", 1),
        ("white bear", "brown bear", 0.5),  # 1 of 2, 1 of 2
        ("bear", "the white polar bear", 0.5),  # 1 of 1, 1 of 3: 2 · 1 · ⅓ / (4/3)
        ("bear bear", "bear", 2 / 3),  # a word counts once: 1 of 2, 1 of 1
        ("", "", 1),
        ("the", "", 1),
        ("", "bear", 0),
        ("bear", "", 0),
        ("cat", "bear", 0),
    ],
)
def test_f1_is_that_of_the_shared_words(answer, right, score):
    assert f1(answer, right) == pytest.approx(score)


def test_the_nearest_right_answer_counts():
    assert best(f1, "white bear", ["cat", "brown bear", "a white bear"]) == 1


def test_a_reference_is_left_out_as_a_persons_own_is():
    # Against the others of each: {b, c}, {a, c}, {a, b}; "red" is the first only.
    assert leave_one_out(exact, "red", ["red", "blue", "green"]) == pytest.approx(2 / 3)
    assert leave_one_out(exact, "red", ["red"]) == 1
    assert leave_one_out(f1, "white bear", ["brown bear", "cat"]) == pytest.approx(0.25)


def test_references_agree_by_f1_of_each_with_the_nearest_other():
    assert agreement(["a bear"]) == 1
    # white bear–brown bear 1/2, twice; cat–any 0.
    assert agreement(["white bear", "brown bear", "cat"]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("answer", "right", "em", "score"),
    [
        (["3"], ["3.0"], 1, 1),  # a number in any form
        (["3 June"], ["3 June 1850"], 0, 0.8),  # 2 of 2, 2 of 3
        (["12 arches"], ["13 arches"], 0, 0),  # the number must be there
        (["the two-master"], ["two master"], 1, 1),  # split at hyphens
        (["pears", "plums"], ["plums", "pears"], 1, 1),  # in any order
        (["pears"], ["plums", "pears"], 0, 0.5),  # one of two spans
        (["plums and pears"], ["plums", "pears"], 0, 0.25),  # ½ with one span, none is left
        (["plums", "plums"], ["plums"], 0, 0.5),
    ],
)
def test_drops_spans_are_paired(answer, right, em, score):
    assert drop(answer, right) == (em, pytest.approx(score))
