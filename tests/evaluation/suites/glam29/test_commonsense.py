"""Physics of every day, and science of the school."""

import pytest


def test_piqa_is_judged_per_token(judged):
    one = judged("piqa", 1)
    shown = "How do you open a stiff jar? Hold the lid under hot water.\n\n"
    assert one.requests(0) == [
        (f"{shown}To dry wet boots.", " Fill them with soup."),
        (f"{shown}To dry wet boots.", " Fill them with old newspaper."),
    ]
    assert one.score(0, (-5, 5), (-5.4, 6)) == {"acc": 1}  # −1 and −0.9


def test_arc_is_judged_over_the_likelihood_after_answer(judged):
    one = judged("arc_e", 1)
    prompt = (
        "Question: Which of these is a liquid?\nAnswer: milk\n\n"
        "Question: What does a thermometer measure?\nAnswer:"
    )
    words = (" weight", " length", " temperature", " colour")
    assert one.requests(0) == [(prompt, w) for w in words] + [("Answer:", w) for w in words]
    # Gains over "Answer:": 1, 0, 3, −1; the likelihood itself would take the first.
    found = [(-2, 1), (-4, 1), (-6, 3), (-5, 1), (-3, 1), (-4, 1), (-9, 3), (-4, 1)]
    assert one.score(0, *found) == {"acc": 1}
    assert judged("arc_e").requests(1)[0] == ("Question: Which animal lays eggs?\nAnswer:", " hen")
    assert one.score(1, (-4, 1), (-3, 1), (-3, 1), (-9, 1), (-3, 1), (-3, 1)) == {"acc": 1}
    assert one.chance == pytest.approx((1 / 4 + 1 / 3) / 2)


def test_the_challenge_set_is_asked_alike(judged):
    assert judged("arc_c", 1).requests(0)[1] == (
        "Question: Why does a metal spoon feel colder than a wooden one?\n"
        "Answer: It conducts heat better.\n\n"
        "Question: What makes the tides of the sea?\nAnswer:",
        " The moon",
    )
    found = [(-5, 2), (-6, 2), (-5, 2), (-5, 2), (-5, 2), (-8, 2), (-5, 2), (-5, 2)]
    assert judged("arc_c").score(0, *found) == {"acc": 1}


def test_openbookqas_sentence_goes_on(judged):
    one = judged("openbookqa", 1)
    prompt = "A magnet will pull an iron nail\n\nBirds fly south in order to"
    assert one.requests(0)[1] == (prompt, " find food in winter")
    assert one.requests(0)[5] == ("Answer:", " find food in winter")
    found = [(-5, 2), (-6, 2), (-5, 2), (-5, 2), (-5, 2), (-8, 2), (-5, 2), (-5, 2)]
    assert one.score(0, *found) == {"acc": 1}
