"""Reading comprehension: answers that are written, or chosen, by a passage before the question."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from glam.evaluation.suites.glam29.benchmark import (
    OVER_ANSWER,
    READING,
    Chosen,
    Data,
    Document,
    Generated,
    Option,
    after,
)
from glam.evaluation.suites.glam29.metrics import agreement, best, drop, exact, f1, leave_one_out

NO_ANSWER = "unanswerable"  # SQuADv2: what a demonstration answers where the passage has no answer
CANNOT_ANSWER = "CANNOTANSWER"  # QuAC's own word for it
LEAST_AGREEMENT = 0.4  # QuAC's scorer leaves out questions whose references agree less


def turns(asked: Sequence[str], answered: Sequence[str]) -> str:
    """Questions with their answers, and a last one without."""
    told = [f"Q: {q}\n\nA: {a}\n\n" for q, a in zip(asked[:-1], answered, strict=False)]
    return f"{''.join(told)}Q: {asked[-1]}\n\nA:"


# DROP


def drop_answers(document: Document) -> list[list[str]]:
    """Each right answer as spans: a number, a date or some text. The first is the author's."""
    checked: dict[str, list[Any]] = document.get("validated_answers") or {}
    keys = ["number", "date", "spans"]
    columns = [checked.get(key) or [] for key in keys]
    others = [dict(zip(keys, one, strict=True)) for one in zip(*columns, strict=True)]
    found = [_drop_spans(one) for one in (document["answer"], *others)]
    return [one for one in found if any(span.strip() for span in one)]


def _drop_spans(answer: Document) -> list[str]:
    if answer["number"]:
        return [str(answer["number"])]
    if answer["spans"]:
        return list(answer["spans"])
    date = answer["date"]
    return [" ".join(date[part] for part in ("day", "month", "year") if date[part])]


def score_drop(document: Document, text: str) -> dict[str, float]:
    """An answer is read as a list where the right one is: spans are shown with commas between."""
    scores = [
        drop(text.split(", ") if len(right) > 1 else [text], right)
        for right in drop_answers(document)
    ]
    em, score = (max((one[n] for one in scores), default=0.0) for n in (0, 1))
    return {"f1": score, "em": em}


# CoQA


def coqa_items(rows: Iterable[Document]) -> Iterator[Document]:
    """A question each, with those before it and their answers."""
    for row in rows:
        asked, answered = row["questions"]["input_text"], row["answers"]["input_text"]
        others: dict[str, Any] = row.get("additional_answers") or {}
        for n in range(len(asked)):
            yield {
                "story": row["story"],
                "asked": asked[: n + 1],
                "answered": answered[:n],
                "right": [answered[n], *(one["input_text"][n] for one in others.values() if one)],
            }


# QuAC


def quac_items(rows: Iterable[Document]) -> Iterator[Document]:
    """A question each, with those before it and their answers; but for those whose references
    disagree, as in QuAC's own scorer."""
    for row in rows:
        answered = row["orig_answers"]["texts"]
        for n, texts in enumerate(row["answers"]["texts"]):
            right = _quac_references(texts)
            if right[0] != CANNOT_ANSWER and agreement(right) < LEAST_AGREEMENT:
                continue
            yield {
                "title": f"{row['wikipedia_page_title']} - {row['section_title']}",
                "passage": row["context"].removesuffix(CANNOT_ANSWER).rstrip(),
                "asked": row["questions"][: n + 1],
                "answered": answered[:n],
                "first": answered[n],
                "right": right,
            }


def _quac_references(texts: Sequence[str]) -> list[str]:
    """CANNOTANSWER alone where at least half say so, without it otherwise."""
    spans = [one for one in texts if one != CANNOT_ANSWER]
    return spans if len(spans) > len(texts) - len(spans) else [CANNOT_ANSWER]


# SQuADv2


def score_squad(document: Document, text: str) -> dict[str, float]:
    """By the official rules, under which no answer is an empty one."""
    said = "" if exact(text, NO_ANSWER) else text
    right = list(document["answers"]["text"]) or [""]
    return {"f1": best(f1, said, right), "em": best(exact, said, right)}


# RACE


def race_items(rows: Iterable[Document]) -> Iterator[Document]:
    """A question each, with those before it on the same article and their answers."""
    for _, group in groupby(rows, key=lambda row: row["article"]):
        asked: list[str] = []
        answered: list[str] = []
        for row in group:
            gold = "ABCD".index(row["answer"])
            asked.append(row["question"])
            yield {
                "article": row["article"],
                "asked": list(asked),
                "answered": list(answered),
                "options": list(row["options"]),
                "gold": gold,
            }
            answered.append(row["options"][gold])


def race_choices(document: Document) -> list[Option]:
    questions = turns(document["asked"], document["answered"])
    return after(f"Article:\n{document['article']}\n\n{questions}", document["options"])


def race(name: str, title: str, config: str) -> Chosen:
    return Chosen(
        name=name,
        title=title,
        category=READING,
        data=Data("ehovy/race", config, "test", "train"),
        shots=10,
        metrics=("acc",),
        expand=race_items,
        choices=race_choices,
        gold=lambda document: document["gold"],
        rule=OVER_ANSWER,
        passage=lambda document: document["article"],
    )


BENCHMARKS = (
    Generated(
        name="drop",
        title="DROP",
        category=READING,
        data=Data("EleutherAI/drop", None, "validation", "train"),
        shots=20,
        metrics=("f1", "em"),
        prompt=lambda document: (
            f"Passage: {document['passage']}\nQuestion: {document['question']}\nAnswer:"
        ),
        answer=lambda document: ", ".join(_drop_spans(document["answer"])),
        score=score_drop,
        tokens=32,
        passage=lambda document: document["passage"],
    ),
    Generated(
        name="coqa",
        title="CoQA",
        category=READING,
        data=Data("EleutherAI/coqa", None, "validation", "train"),
        shots=5,
        metrics=("f1", "em"),
        expand=coqa_items,
        prompt=lambda document: (
            f"{document['story']}\n\n{turns(document['asked'], document['answered'])}"
        ),
        answer=lambda document: document["right"][0],
        score=lambda document, text: {
            "f1": leave_one_out(f1, text, document["right"]),
            "em": leave_one_out(exact, text, document["right"]),
        },
        tokens=32,
        passage=lambda document: document["story"],
    ),
    Generated(
        name="quac",
        title="QuAC",
        category=READING,
        # Its main branch is a script, which `datasets` runs no more; the hub keeps files beside it.
        data=Data("allenai/quac", "plain_text", "validation", "train", "refs/convert/parquet"),
        shots=5,
        metrics=("f1",),
        expand=quac_items,
        prompt=lambda document: (
            f"TITLE: {document['title']}\nPARAGRAPH: {document['passage']}\n\n"
            f"{turns(document['asked'], document['answered'])}"
        ),
        answer=lambda document: document["first"],
        score=lambda document, text: {"f1": leave_one_out(f1, text, document["right"])},
        unanswerable=lambda document: document["right"] == [CANNOT_ANSWER],
        tokens=64,
        passage=lambda document: document["passage"],
    ),
    Generated(
        name="squadv2",
        title="SQuADv2",
        category=READING,
        data=Data("lighteval/squad_v2", None, "validation", "train"),
        shots=16,
        metrics=("f1", "em"),
        prompt=lambda document: (
            f"Title: {document['title']}\n\nBackground: {document['context']}\n\n"
            f"Q: {document['question']}\n\nA:"
        ),
        answer=lambda document: [*document["answers"]["text"], NO_ANSWER][0],
        score=score_squad,
        unanswerable=lambda document: not document["answers"]["text"],
        tokens=32,
        passage=lambda document: document["context"],
    ),
    race("race_m", "RACE-m", "middle"),
    race("race_h", "RACE-h", "high"),
)
