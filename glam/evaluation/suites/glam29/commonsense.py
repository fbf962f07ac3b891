"""Commonsense reasoning: physics of every day, and science of the school."""

from glam.evaluation.suites.glam29.benchmark import (
    COMMONSENSE,
    OVER_ANSWER,
    Chosen,
    Data,
    Document,
    Option,
    after,
)


def lettered(prompt: str, document: Document) -> list[Option]:
    return after(prompt, document["choices"]["text"])


def key(document: Document) -> int:
    """Letters or numbers: some of ARC's keys are 1 to 4."""
    return list(document["choices"]["label"]).index(document["answerKey"].strip())


def science(document: Document) -> list[Option]:
    return lettered(f"Question: {document['question']}\nAnswer:", document)


def arc(name: str, title: str, config: str) -> Chosen:
    return Chosen(
        name=name,
        title=title,
        category=COMMONSENSE,
        data=Data("allenai/ai2_arc", config, "test", "train"),
        shots=50,
        metrics=("acc",),
        choices=science,
        gold=key,
        rule=OVER_ANSWER,
    )


BENCHMARKS = (
    Chosen(
        name="piqa",
        title="PIQA",
        category=COMMONSENSE,
        data=Data("baber/piqa", None, "validation", "train"),
        shots=50,
        metrics=("acc",),
        choices=lambda document: after(document["goal"], (document["sol1"], document["sol2"])),
        gold=lambda document: int(document["label"]),
    ),
    arc("arc_e", "ARC-e", "ARC-Easy"),
    arc("arc_c", "ARC-c", "ARC-Challenge"),
    Chosen(
        name="openbookqa",
        title="OpenBookQA",
        category=COMMONSENSE,
        data=Data("allenai/openbookqa", "main", "test", "train"),
        shots=100,
        metrics=("acc",),
        choices=lambda document: lettered(document["question_stem"], document),
        gold=key,
        rule=OVER_ANSWER,
    ),
)
