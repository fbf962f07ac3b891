"""SuperGLUE's eight tasks."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from glam.evaluation.suites.glam29.benchmark import (
    SUM,
    SUPERGLUE,
    Chosen,
    Data,
    Document,
    Option,
    after,
)
from glam.evaluation.suites.glam29.metrics import best, exact, f1

HIGHLIGHT = "\n@highlight\n"
NO_YES = ("no", "yes")
EXAM = (
    "Final Exam with Answer Key\n"
    "Instructions: Please carefully read the following passages. For each passage, you must "
    "identify which noun the pronoun marked in *bold* refers to.\n=====\n"
)
ANSWER_KEY = "READING COMPREHENSION ANSWER KEY\n\n"


def label(document: Document) -> int:
    return int(document["label"])


def asked(premise: str, question: str) -> str:
    """GPT-3's form of SuperGLUE: a text, then a question about it."""
    return f"{premise}\nquestion: {question}\nanswer:"


def boolq(document: Document) -> list[Option]:
    question = document["question"].strip().rstrip("?")
    return after(asked(document["passage"], f"{question}?"), NO_YES)


def cb(document: Document) -> list[Option]:
    question = f"{_sentence(document['hypothesis'])} true, false, or neither?"
    return after(asked(document["premise"], question), ("true", "false", "neither"))


def rte(document: Document) -> list[Option]:
    question = f"{document['hypothesis']} True or False?"
    return after(asked(document["premise"], question), ("True", "False"))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def score_cb(document: Document, chosen: int) -> dict[str, Any]:
    return {"acc": float(chosen == label(document)), "f1": (label(document), chosen)}


def copa(document: Document) -> list[Option]:
    """The premise goes on, without its full stop."""
    word = {"cause": "because", "effect": "therefore"}[document["question"]]
    prompt = f"{document['premise'].strip().removesuffix('.')} {word}"
    choices = (document[key] for key in ("choice1", "choice2"))
    return after(prompt, (one[:1].lower() + one[1:] for one in choices))


def wic(document: Document) -> list[Option]:
    question = f"Is the word '{document['word']}' used in the same way in the two sentences above?"
    return after(asked(f"{document['sentence1']}\n{document['sentence2']}", question), NO_YES)


def wsc(document: Document) -> list[Option]:
    """The places of the spans count words."""
    words, start = document["text"].split(), document["span2_index"]
    pronoun = document["span2_text"]
    end = start + len(pronoun.split())
    marked = " ".join(words[start:end]).replace(pronoun, f"*{pronoun}*", 1)
    passage = " ".join([*words[:start], marked, *words[end:]])
    question = (
        f'Question: In the passage above, does the pronoun "*{pronoun}*" refer to '
        f'"{document["span1_text"]}"?'
    )
    return after(f"Passage: {passage}\n{question}\nAnswer:", NO_YES)


# MultiRC: every answer of a question is judged by itself, true or false.


def multirc_prompt(document: Document) -> str:
    return f"{document['paragraph']}\n\n{document['question']}"


def marked_answer(is_true: bool, answer: str) -> str:
    return f"- [{is_true}] {answer}"


def multirc(document: Document) -> list[Option]:
    return after(
        multirc_prompt(document), (marked_answer(one, document["answer"]) for one in (False, True))
    )


def multirc_questions(rows: Iterable[Document]) -> Iterator[Document]:
    """A question each, with all of its answers: what K counts (GPT-3's figure G.15)."""
    for _, group in groupby(rows, key=lambda row: (row["paragraph"], row["question"])):
        answers = list(group)
        marked = [marked_answer(label(one) == 1, one["answer"]) for one in answers]
        yield {**answers[0], "marked": "\n".join(marked)}


def score_multirc(document: Document, chosen: int) -> dict[str, Any]:
    return {"f1a": (label(document), chosen)}


def guessing_f1a(documents: Sequence[Document]) -> float:
    """F1 of a coin: its precision is the share of true answers, its recall one half."""
    share = sum(map(label, documents)) / len(documents)
    return share / (share + 0.5)


# ReCoRD


def record(document: Document) -> list[Option]:
    """The query is one more highlight of the news, with an entity in its place."""
    text, *highlights = document["passage"].strip().split(HIGHLIGHT)
    lines = [f"- {one}" for one in highlights]
    prompt = f"{text}\n\n" + "\n".join(lines) if lines else text
    query = document["query"]
    return after(prompt, (f"- {query.replace('@placeholder', one)}" for one in entities(document)))


def entities(document: Document) -> list[str]:
    return sorted(set(document["entities"]))


def right_entity(document: Document) -> int:
    """The first that is right: there may be several, for one name written in several ways."""
    right = set(document["answers"])
    return next(n for n, one in enumerate(entities(document)) if one in right)


def score_record(document: Document, chosen: int) -> dict[str, Any]:
    said, right = entities(document)[chosen], document["answers"]
    return {"em": best(exact, said, right), "f1": best(f1, said, right)}


def guessing_record(documents: Sequence[Document]) -> float:
    """Exact match of an entity drawn at random."""
    every = ([best(exact, one, each["answers"]) for one in entities(each)] for each in documents)
    return sum(sum(scores) / len(scores) for scores in every) / len(documents)


def superglue(config: str) -> Data:
    return Data("aps/super_glue", config, "validation", "train")


SHOTS = 32
BENCHMARKS = (
    Chosen(
        name="boolq",
        title="BoolQ",
        category=SUPERGLUE,
        data=superglue("boolq"),
        shots=SHOTS,
        metrics=("acc",),
        choices=boolq,
        gold=label,
    ),
    Chosen(
        name="cb",
        title="CB",
        category=SUPERGLUE,
        data=superglue("cb"),
        shots=SHOTS,
        metrics=("acc", "f1"),
        choices=cb,
        gold=label,
        score=score_cb,
    ),
    Chosen(
        name="copa",
        title="COPA",
        category=SUPERGLUE,
        data=superglue("copa"),
        shots=SHOTS,
        metrics=("acc",),
        choices=copa,
        gold=label,
        rule=SUM,
    ),
    Chosen(
        name="rte",
        title="RTE",
        category=SUPERGLUE,
        data=superglue("rte"),
        shots=SHOTS,
        metrics=("acc",),
        choices=rte,
        gold=label,
    ),
    Chosen(
        name="wic",
        title="WiC",
        category=SUPERGLUE,
        data=superglue("wic"),
        shots=SHOTS,
        metrics=("acc",),
        choices=wic,
        gold=label,
    ),
    Chosen(
        name="wsc",
        title="WSC",
        category=SUPERGLUE,
        data=superglue("wsc.fixed"),
        shots=SHOTS,
        metrics=("acc",),
        description=EXAM,
        choices=wsc,
        gold=label,
        same_demonstrations=True,
    ),
    Chosen(
        name="multirc",
        title="MultiRC",
        category=SUPERGLUE,
        data=superglue("multirc"),
        shots=SHOTS,
        metrics=("f1a",),
        description=ANSWER_KEY,
        delimiter="\n",
        pool=multirc_questions,
        demonstration=lambda document: f"{multirc_prompt(document)}\n{document['marked']}",
        same_demonstrations=True,
        choices=multirc,
        gold=label,
        rule=SUM,
        score=score_multirc,
        guessing=guessing_f1a,
        passage=lambda document: document["paragraph"],
    ),
    Chosen(
        name="record",
        title="ReCoRD",
        category=SUPERGLUE,
        data=superglue("record"),
        shots=SHOTS,
        metrics=("em", "f1"),
        delimiter="\n",
        choices=record,
        gold=right_entity,
        rule=SUM,
        score=score_record,
        guessing=guessing_record,
        passage=lambda document: document["passage"],
    ),
)
