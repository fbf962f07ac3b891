"""Open-domain question answering, from what the model knows."""

from glam.evaluation.suites.glam29.benchmark import OPEN_DOMAIN, Data, Document, Generated
from glam.evaluation.suites.glam29.metrics import best, exact, exact_trivia


def question(document: Document) -> str:
    text = document["question"].strip()
    return f"Q: {text if text.endswith('?') else text + '?'}\n\nA:"


def trivia_names(document: Document) -> list[str]:
    """All names of the answer that count as right."""
    answer = document["answer"]
    return [answer["value"], *answer["aliases"], *answer["normalized_aliases"]]


BENCHMARKS = (
    Generated(
        name="triviaqa",
        title="TriviaQA",
        category=OPEN_DOMAIN,
        data=Data("mandarjoshi/trivia_qa", "rc.nocontext", "validation", "train"),
        shots=64,
        metrics=("em",),
        prompt=question,
        answer=lambda document: document["answer"]["value"],
        score=lambda document, text: {"em": best(exact_trivia, text, trivia_names(document))},
        tokens=24,
    ),
    Generated(
        name="nqs",
        title="Natural Questions",
        category=OPEN_DOMAIN,
        data=Data("google-research-datasets/nq_open", None, "validation", "train"),
        shots=64,
        metrics=("em",),
        prompt=question,
        answer=lambda document: document["answer"][0],
        score=lambda document, text: {"em": best(exact, text, document["answer"])},
        tokens=24,
    ),
    Generated(
        name="webqs",
        title="Web Questions",
        category=OPEN_DOMAIN,
        data=Data("stanfordnlp/web_questions", None, "test", "train"),
        shots=64,
        metrics=("em",),
        prompt=question,
        answer=lambda document: document["answers"][0],
        score=lambda document, text: {"em": best(exact, text, document["answers"])},
        tokens=24,
    ),
)
