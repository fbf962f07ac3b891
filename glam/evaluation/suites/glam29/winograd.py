"""Winograd schemas, by partial evaluation (arXiv 1806.02847): each candidate is put where the
pronoun stands, and the rest of the sentence is judged after it."""

from glam.evaluation.suites.glam29.benchmark import SUM, WINOGRAD, Chosen, Data, Document, Option

POSSESSIVE = ("my", "his", "her", "our", "their")
LOWERED = ("A", "An", "The", "She", "He", "It", "They", "My", "His", "Her", "Their")


def candidate(document: Document, text: str) -> str:
    """As it fits the pronoun's place: with 's for a possessive, without a capital inside."""
    if document["pronoun"].lower() in POSSESSIVE:
        text += "'s"
    first, _, rest = text.partition(" ")
    before = document["text"][: document["pronoun_loc"]].rstrip()
    if before and before[-1] not in ".!?" and first in LOWERED:
        return f"{first.lower()} {rest}".rstrip()
    return text


def schema(document: Document) -> list[Option]:
    start = document["pronoun_loc"]
    before = document["text"][:start]
    ending = document["text"][start + len(document["pronoun"]) :]
    return [_placed(before, candidate(document, one), ending) for one in document["options"]]


def sentence(document: Document) -> list[Option]:
    before, _, ending = document["sentence"].partition("_")
    return [_placed(before, document[key], ending) for key in ("option1", "option2")]


def _placed(before: str, one: str, ending: str) -> Option:
    """Without double spaces. What follows keeps its space: there is none before 's or a comma."""
    space = " " if ending[:1].isspace() else ""
    return Option(" ".join(f"{before}{one}".split()), space + " ".join(ending.split()))


BENCHMARKS = (
    Chosen(
        name="winograd",
        title="Winograd",
        category=WINOGRAD,
        # There is one split only, as GPT-3's section 2.4 says too.
        data=Data("lighteval/winograd_wsc", "wsc273", "test", "test"),
        shots=7,
        metrics=("acc",),
        choices=schema,
        gold=lambda document: int(document["label"]),
        rule=SUM,
        delimiter="",
    ),
    Chosen(
        name="winogrande",
        title="WinoGrande",
        category=WINOGRAD,
        data=Data("allenai/winogrande", "winogrande_xl", "validation", "train"),
        shots=50,
        metrics=("acc",),
        choices=sentence,
        gold=lambda document: int(document["answer"]) - 1,
        rule=SUM,
        delimiter="",
    ),
)
