"""Natural language inference: the three rounds of ANLI."""

from glam.evaluation.suites.glam29.benchmark import NLI, Chosen, Data, Document, after

ANSWERS = ("True", "Neither", "False")  # entailment, neutral, contradiction


def anli(number: int) -> Chosen:
    def prompt(document: Document) -> str:
        question = f"Question: {document['hypothesis']} True, False, or Neither?"
        return f"anli {number}: anli {number}: {document['premise']}\n{question}"

    return Chosen(
        name=f"anli_r{number}",
        title=f"ANLI R{number}",
        category=NLI,
        data=Data("facebook/anli", None, f"test_r{number}", f"train_r{number}"),
        shots=50,
        metrics=("acc",),
        choices=lambda document: after(prompt(document), ANSWERS),
        gold=lambda document: int(document["label"]),
    )


BENCHMARKS = (anli(1), anli(2), anli(3))
