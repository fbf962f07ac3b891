"""Questions about a passage."""

import pytest

from glam.evaluation.suites.glam29.reading import quac_items, score_drop


def test_drop(judged):
    one = judged("drop", 1)
    assert one.prompts(0) == [
        "Passage: The Bears scored twice in the first half and once in the second.\n"
        "Question: How many times did the Bears score?\nAnswer: 3\n\n"
        "Passage: The old bridge was built on 3 June 1850. It has 12 arches and two towers.\n"
        "Question: When was the bridge built?\nAnswer:"
    ]
    assert one.score(0, "3 June 1850") == {"f1": 1, "em": 1}
    assert one.score(0, "1850") == {"f1": 1, "em": 1}  # one of those who checked said so
    assert one.score(0, "June 1851") == {"f1": 0, "em": 0}
    assert one.score(1, "plums, pears") == {"f1": 1, "em": 1}
    assert one.score(1, "plums") == {"f1": 0.5, "em": 0}


def test_a_question_of_drop_without_an_answer_is_never_right():
    none = {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": []}
    assert score_drop({"answer": none}, "") == {"f1": 0, "em": 0}


def test_a_demonstration_of_drop_lists_its_spans(judged):
    task = judged("drop", 2)
    assert "Question: Who was born in the village?\nAnswer: Anna, Ben\n\n" in task.prompts(0)[0]


def test_coqa_asks_every_question_of_a_story(judged):
    one = judged("coqa", 1)
    story = "Uncle Max keeps three hens. Every morning he finds two eggs."
    assert [len(judged("coqa").prompts(n)) for n in range(2)] == [1, 1]
    assert judged("coqa").prompts(1) == [
        f"{story}\n\nQ: What does Max keep?\n\nA: hens\n\nQ: How many eggs does he find?\n\nA:"
    ]
    assert one.prompts(0) == [
        "Lea has a red kite. On Sunday she flies it on the hill.\n\n"
        "Q: Who has a kite?\n\nA: Lea\n\n"
        f"{story}\n\nQ: What does Max keep?\n\nA:"
    ]
    # hens, three hens, some hens. Left out in turn: ⅔ (three hens), 1, 1; exact: 0, 1, 1.
    found = one.score(0, "hens")
    assert found == {"f1": pytest.approx(8 / 9), "em": pytest.approx(2 / 3)}


def test_quac_asks_what_its_references_agree_on(judged):
    none = judged("quac")
    passage = "Otto Lind sailed to the north in 1871. He came back with a white bear."
    start = f"TITLE: Otto Lind - Voyages\nPARAGRAPH: {passage}\n\nQ: Where did he sail?\n\nA:"
    assert none.prompts(0) == [start]
    # The second question's references share no word: it is asked in the third one's prompt only.
    assert none.prompts(1) == [
        f"{start} sailed to the north\n\nQ: What did he bring back?\n\nA: a white bear\n\n"
        "Q: Was he married?\n\nA:"
    ]
    assert len(none.documents) == 2
    assert none.chance == 0.5  # one of both has no answer
    # sailed to north; to north in 1871. Left out in turn: F1 ⅔ of 3 and 4 words (2 shared: 4/7), 1.
    assert none.score(0, "sailed to the north") == {"f1": pytest.approx((4 / 7 + 1) / 2)}
    assert none.score(1, "CANNOTANSWER") == {"f1": 1}
    assert none.score(1, "He came back") == {"f1": 0}  # most say that there is no answer
    assert judged("quac", 1).prompts(0)[0].endswith(f"\n\nA: CANNOTANSWER\n\n{start}")


def test_a_half_of_quacs_references_is_enough_for_no_answer():
    row = {
        "wikipedia_page_title": "",
        "section_title": "",
        "context": "Words. CANNOTANSWER",
        "questions": ["Which?"],
        "answers": {"texts": [["Words", "CANNOTANSWER"]]},
        "orig_answers": {"texts": ["Words"]},
    }
    assert next(quac_items([row]))["right"] == ["CANNOTANSWER"]


def test_squadv2_may_have_no_answer(judged):
    one = judged("squadv2", 1)
    passage = "The lighthouse has a red lamp. It was painted by Ole Dahl."
    mill = "Title: Mill\n\nBackground: The mill by the river grinds rye and oats.\n\nQ: "
    assert one.prompts(0) == [
        f"Title: Lighthouse\n\nBackground: {passage}\n\nQ: Who painted the lighthouse?\n\n"
        f"A: Ole Dahl\n\n{mill}What does the mill grind?\n\nA:"
    ]
    assert one.score(0, "rye") == {"f1": 1, "em": 1}
    assert one.score(0, "oats") == {"f1": 0.5, "em": 0}  # of rye and oats: 1 of 1, 1 of 3
    assert one.score(0, "unanswerable") == {"f1": 0, "em": 0}
    assert one.score(1, "Unanswerable.") == {"f1": 1, "em": 1}
    assert one.score(1, "Ole Dahl") == {"f1": 0, "em": 0}
    assert one.chance == 0.5  # who never answers is right on one of two
    two = judged("squadv2", 2).prompts(0)[0]
    assert "Q: How tall is the lighthouse?\n\nA: unanswerable\n\n" in two


def test_race_shows_the_earlier_questions_of_an_article(judged):
    none = judged("race_m")
    start = (
        "Article:\nJan forgot his bag on the bus. The driver brought it to the school.\n\n"
        "Q: What did Jan forget?\n\nA:"
    )
    second = f"{start} His bag.\n\nQ: The driver brought it to the  _  .\n\nA:"
    assert none.requests(0)[0] == (start, " His bag.")
    words = (" market", " police", " farm", " school")
    assert none.requests(1) == [(second, w) for w in words] + [("Answer:", w) for w in words]
    found = [(-2, 1), (-4, 1), (-4, 1), (-6, 1), (-2, 1), (-4, 1), (-4, 1), (-9, 1)]
    assert none.score(1, *found) == {"acc": 1}
    shown = (
        "Article:\nKim has a small boat. Every summer she sails it to the island.\n\n"
        "Q: When does Kim sail?\n\nA: In summer.\n\n"
    )
    assert judged("race_m", 1).prompts(0)[0] == shown + start


def test_race_h_begins_anew_with_an_article(judged):
    assert judged("race_h").prompts(1)[0] == (
        "Article:\nA good violin is made of wood that has dried for years.\n\n"
        "Q: What is said of the wood?\n\nA:"
    )
    shown = (
        "Q: Why was the road closed?\n\nA: For the children.\n\nArticle:\nGlass is made of sand."
    )
    assert shown in judged("race_h", 1).prompts(0)[0]
    found = [(-2, 1), (-3, 1), (-4, 1), (-6, 1), (-2, 1), (-4, 1), (-4, 1), (-6, 1)]
    assert judged("race_h").score(0, *found) == {"acc": 1}
