"""SuperGLUE's eight tasks."""

import pytest

from glam.evaluation.suites.glam29.task import f1a, macro_f1

EXAM = (
    "Final Exam with Answer Key\nInstructions: Please carefully read the following passages. For "
    "each passage, you must identify which noun the pronoun marked in *bold* refers to.\n=====\n"
)


def test_boolq(judged):
    one = judged("boolq", 1)
    prompt = (
        "Whales -- Whales are mammals that live in the sea.\n"
        "question: is a whale a fish?\nanswer: no\n\n"
        "Slate -- Slate is a rock that splits into thin plates.\n"
        "question: is slate a kind of rock?\nanswer:"
    )
    assert one.requests(0) == [(prompt, " no"), (prompt, " yes")]
    assert one.score(0, (-2, 1), (-1, 1)) == {"acc": 1}
    assert one.score(1, (-2, 1), (-1, 1)) == {"acc": 0}


def test_cb(judged):
    one = judged("cb", 1)
    prompt = (
        "A: Do you think the shop is open? B: I don't think it opens on Sundays.\n"
        "question: the shop opens on Sundays. true, false, or neither?\nanswer: false\n\n"
        "He believes that the bridge will hold.\n"
        "question: the bridge will hold. true, false, or neither?\nanswer:"
    )
    assert one.requests(0) == [(prompt, " true"), (prompt, " false"), (prompt, " neither")]
    # Per token −2, −2, −1.
    assert one.score(0, (-2, 1), (-2, 1), (-3, 3)) == {"acc": 1, "f1": (2, 2)}
    assert one.score(1, (-2, 1), (-2, 1), (-3, 3)) == {"acc": 0, "f1": (0, 2)}
    # Class 0: 2 chosen, both right, of 3. Class 1: never. Class 2: 3 chosen, 1 right, of 1.
    pairs = [(0, 0), (0, 0), (0, 2), (1, 2), (2, 2)]
    assert macro_f1(pairs) == pytest.approx((0.8 + 0 + 0.5) / 3)


def test_copa_is_judged_by_the_sum(judged):
    one = judged("copa", 1)
    prompt = "It rained all night therefore the river rose.\n\nThe candle went out because"
    assert one.requests(0) == [(prompt, " somebody lit a match."), (prompt, " the wind blew.")]
    assert one.score(0, (-5, 6), (-4.5, 4)) == {"acc": 1}  # per token the first
    assert judged("copa").requests(1)[0] == ("She missed the bus therefore", " she walked home.")


def test_rte(judged):
    one = judged("rte", 1)
    prompt = (
        "The team lost its first game.\nquestion: The team won. True or False?\nanswer: False\n\n"
        "Two ships left the harbour at noon.\n"
        "question: Ships left the harbour. True or False?\nanswer:"
    )
    assert one.requests(0) == [(prompt, " True"), (prompt, " False")]
    assert one.score(0, (-1, 1), (-2, 1)) == {"acc": 1}


def test_wic(judged):
    question = "used in the same way in the two sentences above?\nanswer:"
    prompt = (
        f"He cut the bread.\nShe cut the rope.\nquestion: Is the word 'cut' {question} yes\n\n"
        "The light of the lamp was weak.\nThe bag was light.\n"
        f"question: Is the word 'light' {question}"
    )
    one = judged("wic", 1)
    assert one.requests(0) == [(prompt, " no"), (prompt, " yes")]
    assert one.score(0, (-1, 1), (-2, 1)) == {"acc": 1}
    assert one.score(1, (-1, 1), (-2, 1)) == {"acc": 0}


def test_wsc_marks_its_pronoun_and_shows_all_items_the_same(judged):
    one = judged("wsc", 1)
    shown = (
        "Passage: Peter thanked Paul because *he* had helped him.\n"
        'Question: In the passage above, does the pronoun "*he*" refer to "Paul"?\nAnswer: yes\n\n'
    )
    prompt = (
        f"{EXAM}{shown}Passage: Sara sold the cart to Nina, since *she* needed money.\n"
        'Question: In the passage above, does the pronoun "*she*" refer to "Sara"?\nAnswer:'
    )
    assert one.requests(0) == [(prompt, " no"), (prompt, " yes")]
    assert all(one.prompts(n)[0].startswith(EXAM + shown) for n in range(2))
    assert "until *it* was tired of barking at it." in judged("wsc").prompts(1)[0]
    assert one.score(0, (-2, 1), (-1, 1)) == {"acc": 1}


def test_multirc_judges_each_answer_and_shows_whole_questions(judged):
    one = judged("multirc", 1)
    shown = (
        "Ida sold apples and pears at the gate.\n\nWhat did Ida sell?\n"
        "- [True] apples\n- [False] plums\n\n"
    )
    question = "The ferry leaves at nine and comes back at noon.\n\nWhen does the ferry leave?"
    prompt = f"READING COMPREHENSION ANSWER KEY\n\n{shown}{question}"
    assert one.requests(1) == [(prompt, "\n- [False] at noon"), (prompt, "\n- [True] at noon")]
    assert one.score(0, (-5, 6), (-4, 6)) == {"f1a": (1, 1)}
    assert one.score(1, (-5, 6), (-4, 6)) == {"f1a": (0, 1)}
    # Of true answers 1 of 2 is found, and 1 of the 2 found is one.
    assert f1a([(1, 1), (0, 1), (1, 0), (0, 0)]) == 0.5
    # A coin: precision ⅔, recall ½.
    assert one.chance == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))


def test_record_judges_the_whole_highlight(judged):
    one = judged("record", 1)
    shown = (
        "(Own) -- Nora Falk won the race in Lindholm on Sunday.\n\n- Nora Falk ran for two hours\n"
        "- After the race Nora Falk thanked the town of Lindholm.\n\n"
    )
    prompt = (
        f"{shown}(Own) -- The mayor of Osby, Per Holm, opened the new bridge.\n\n"
        "- The bridge is 90 metres long\n- It replaces a ferry"
    )
    query = "\n- Before the bridge, people crossed the river at {} by boat."
    names = ("Holm", "Osby", "Per Holm")
    assert one.requests(0) == [(prompt, query.format(name)) for name in names]
    assert one.score(0, (-9, 9), (-8, 9), (-8.5, 20)) == {"em": 1, "f1": 1}  # the sum
    assert one.score(0, (-7, 9), (-8, 9), (-8.5, 20)) == {"em": 0, "f1": 0}
    assert one.chance == pytest.approx(1 / 3)
