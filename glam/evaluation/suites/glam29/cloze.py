"""Cloze and completion: the last word of a passage, the end of a story."""

import re

from glam.evaluation.suites.glam29.benchmark import (
    CLOZE,
    Chosen,
    Data,
    Document,
    Generated,
    Option,
    after,
)
from glam.evaluation.suites.glam29.metrics import exact


def passage_and_word(document: Document) -> tuple[str, str]:
    passage, _, word = document["text"].strip().rpartition(" ")
    return passage, word


def fill_in(document: Document) -> str:
    """GPT-3's form, which says that exactly one word is wanted."""
    return f"{passage_and_word(document)[0]} ____. ->"


def first_word(text: str) -> str:
    return (text.split() or [""])[0]


def without_marks(text: str) -> str:
    """HellaSwag's text without what WikiHow's pages have left in it."""
    text = re.sub(r"\[.*?\]", "", text.replace(" [title]", ". "))
    return text.replace("  ", " ").strip()


def endings(document: Document) -> list[Option]:
    context = f"{document['ctx_a']} {document['ctx_b'].capitalize()}"
    prompt = without_marks(f"{document['activity_label']}: {context}")
    return after(prompt, (without_marks(one) for one in document["endings"]))


def story(document: Document) -> str:
    return " ".join(document[f"input_sentence_{n}"] for n in range(1, 5))


BENCHMARKS = (
    Generated(
        name="lambada",
        title="LAMBADA",
        category=CLOZE,
        # This edition has no other split: demonstrations are other passages of the same one.
        data=Data("EleutherAI/lambada_openai", None, "test", "test"),
        shots=15,
        metrics=("acc",),
        description="Fill in blank:\n\n",
        prompt=fill_in,
        zero_shot=lambda document: passage_and_word(document)[0],
        answer=lambda document: passage_and_word(document)[1],
        score=lambda document, text: {
            "acc": exact(first_word(text), passage_and_word(document)[1])
        },
        tokens=8,
    ),
    Chosen(
        name="hellaswag",
        title="HellaSwag",
        category=CLOZE,
        data=Data("Rowan/hellaswag", None, "validation", "train"),
        shots=20,
        metrics=("acc",),
        choices=endings,
        gold=lambda document: int(document["label"]),
    ),
    Chosen(
        name="storycloze",
        title="StoryCloze",
        category=CLOZE,
        data=Data("LSDSem/story_cloze", "2016", "test", "validation"),
        shots=70,
        metrics=("acc",),
        choices=lambda document: after(
            story(document), (document["sentence_quiz1"], document["sentence_quiz2"])
        ),
        gold=lambda document: int(document["answer_right_ending"]) - 1,
    ),
)
