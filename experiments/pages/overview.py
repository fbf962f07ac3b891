"""The tables of docs/results.md and of the README: a row a study, what was found by its claim."""

from typing import NamedTuple

from experiments.lead.__main__ import TABLES as LEADS
from experiments.pages.ablations import ABLATIONS
from experiments.pages.claims import claim
from experiments.pages.commands import line
from experiments.pages.predictions import paper_numbers
from experiments.pages.speeds import step_cost
from experiments.pages.tables import NotTrainedError, Rows, plain, program
from experiments.pages.words import markdown
from glam.units import in_message, ticks


class Entry(NamedTuple):
    question: str
    command: str = ""  # none: that of its experiment
    tables: tuple[str, ...] = ("results.csv",)  # that say which program trained it; none: today's


PAPER = {
    "first_grid": Entry(
        "More experts, lower loss at equal FLOPs",
        "python run.py -m model.num_experts=1,8,16 seed=0,1,2,3,4", ("five_seeds.csv",),
    ),
    "expert_scaling": Entry("… at every size"),
    "moe_vs_dense": Entry("The same loss for fewer tokens"),
    "equal_time": Entry("Lower loss in equal time"),
    "energy": Entry("The same loss for less energy", "python -m experiments.energy.compare", ()),
    "data_filtering": Entry("Filtered text is better"),
    "one_genre": Entry("… on one genre with half of it spoilt"),
    "scaling_law": Entry("Loss follows a law", "python -m experiments.scaling_law.refit"),
}  # fmt: skip
ASKED = {
    "data_controls": Entry("Is any choice of pages better than all of them?"),
    "embedded_tasks": Entry(
        "Do tasks tell a tiny model from chance?",
        "python -m experiments.embedded_tasks.measure", (),
    ),
    "lead": Entry(
        "Do tokens per active parameter decide the gain from experts?",
        "python -m experiments.lead", tuple(f"../{table}" for table in LEADS),
    ),
    "learning_rate": Entry(
        "Does one rule give the learning rate?", "python -m experiments.learning_rate sweep", ()
    ),
    **{
        f"ablations/{name}": Entry(
            one.question.replace("… by", "Does the balance loss matter, by")
        )
        for name, one in ABLATIONS.items()
    },
    "upcycling": Entry(
        "Is a model upcycled from a dense one better than one trained anew?",
        "python -m experiments.upcycling.study", (),
    ),
    "serving": Entry(
        "What do fewer experts and fewer bytes cost?", "python -m experiments.serving.measure", ()
    ),
}  # fmt: skip


def overview(which: str) -> str:
    """`paper` and `asked` of docs/results.md; `readme`: the paper's claims, and links to pages."""
    entries = ASKED if which == "asked" else PAPER
    head = ["question" if which == "asked" else "claim", "found"]
    if which == "readme":
        rows = [
            [
                one.question,
                claim(name),
                _command(name, one),
                f"[{name}](experiments/{name}/README.md)",
            ]
            for name, one in entries.items()
        ]
        return markdown([*head, "command", "details"], rows)
    rows = [
        [f"[{one.question}]({_page(name)})", claim(name), _program(name, one), _command(name, one)]
        for name, one in entries.items()
    ]
    return f"{{.stacked .claims}}\n{markdown([*head, 'program', 'command'], rows)}"


def program_costs() -> str:
    """Of the README: what is told of the program, and not of a study."""
    rows = [
        ["the paper's numbers", paper_numbers(), "python -m experiments.paper_numbers.compare"],
        ["what a step costs", step_cost(), "make bench"],
    ]
    pages = ("paper_numbers", "benchmarks")
    made = [
        [what, found, f"`{command}`", f"[{name}](experiments/{name}/README.md)"]
        for (what, found, command), name in zip(rows, pages, strict=True)
    ]
    return markdown(["also asked", "found", "command", "details"], made)


def extent() -> str:
    """The sizes and tokens of the studies' tables, from the least to the most."""
    rows = [
        row
        for name, entry in (*PAPER.items(), *ASKED.items())
        for table in entry.tables
        for row in _rows(f"{name}/{table}")
        if row.get("parameters/active") and row.get("tokens")
    ]
    active, tokens = (
        sorted(float(row[column]) for row in rows) for column in ("parameters/active", "tokens")
    )
    told = [in_message(ticks(one)) for one in (active[0], active[-1], tokens[0], tokens[-1])]
    return (
        f"Models of {told[0]} to {told[1]} active parameters on {told[2]} to {told[3]} tokens, "
        "trained on CPUs of two cores. Effects are small, and intervals decide."
    )


def _rows(name: str) -> Rows:
    try:
        return plain(name)
    except NotTrainedError:
        return []


def _command(name: str, entry: Entry) -> str:
    return f"`{entry.command or line(name)}`"


def _page(name: str) -> str:
    return f"experiments/{name.partition('/')[0]}.md"


def _program(name: str, entry: Entry) -> str:
    try:
        return program(*(f"{name}/{table}" for table in entry.tables))
    except NotTrainedError:
        return ""
