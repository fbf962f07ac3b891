"""Items as running text."""

from types import SimpleNamespace

from glam.evaluation.suites.item_texts import right, stretches

QUESTION = "Which of these rocks was made by heat and pressure deep below"


def task(text, target, choices=None):
    return SimpleNamespace(
        config=SimpleNamespace(doc_to_choice=choices),
        doc_to_text=lambda doc: text,
        doc_to_target=lambda doc: target,
        doc_to_choice=lambda doc: choices,
    )


def test_the_right_answer_stands_behind_the_prompt():
    assert right(task("Q:", "an answer"), {}) == "Q: an answer"
    assert right(task("Q:", 1, ["no", "yes"]), {}) == "Q: yes"
    assert right(task("Q:", ["first", "alias"]), {}) == "Q: first"
    assert (
        right(task(0, "suffix", ["the whole prefix", "another"]), {}) == "the whole prefix suffix"
    )


def test_fields_stand_for_an_item_and_the_words_of_a_template_do_not():
    document = {
        "id": "Mercury_7",
        "question": QUESTION,
        "choices": {"text": ["marble", "sand"], "label": ["A", "B"]},
    }
    assert stretches(document, f"Question: {QUESTION}\nAnswer: marble") == (QUESTION, "A", "marble")


def test_a_field_within_another_is_none_of_its_own():
    document = {"passage": f"{QUESTION}. It was marble.", "question": QUESTION}
    asked = f"{document['passage']}\n{QUESTION}"
    assert stretches(document, asked) == (document["passage"],)


def test_what_a_template_changed_is_taken_as_it_is_asked():
    document = {"sentence": "Ann asked Eve, but _ was out.", "option1": "Ann", "option2": "Eve"}
    asked = "Ann asked Eve, but Eve was out."
    assert stretches(document, asked) == (asked,)
