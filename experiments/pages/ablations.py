"""The ablations: of each the table, what is compared with what, and the question."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.pages.commands import command
from experiments.pages.differences import by_domain, compared, differences, load, scores
from experiments.pages.tables import STUDIES, NotTrainedError, ran, rows_of
from experiments.pages.words import Claim, Effect, Good, answer, markdown
from experiments.paired import Cell, paired

OVER_BASELINE = "Mean held-out loss less that of {}, nats per token"


class Ablation(NamedTuple):
    question: str
    key: str  # several joined by commas
    baseline: str
    words: str  # the baseline's, in the claim
    good: Good = "either"
    load_by: str = ""  # the keys by which load is told; none: `key`
    name: str = ""
    values: Mapping[str, str] = {}  # words for values that say little

    @property
    def table(self) -> str:
        return f"ablations/{self.name}/results.csv"

    def claim(self) -> Claim:
        what = OVER_BASELINE.format(self.words)
        return compared(
            self.table, self.key, self.baseline, what, good=self.good, words=self.values
        )


class Optimizers(Ablation):
    """Each optimizer at its own best rate: a rate means something else to each."""

    def claim(self) -> Claim:
        rows = rows_of(self.table, "optimizer", RATE, "loss/mean")
        first, other = (_best_rate(rows, name) for name in ("adamw", "adafactor"))
        found = paired(rows, self.key.split(","), f"adamw,{first}", ["loss/mean"])
        effect = Effect.of(found[Cell(f"adafactor,{other}"), "loss/mean"])
        what = (
            f"Mean held-out loss of Adafactor ({other}) less that of AdamW ({first}), each at the "
            "best learning rate of those tried, nats per token"
        )
        return answer(what, {"": effect}, good="either")


RATE = "optimizer.learning_rate"


def _best_rate(rows: Sequence[dict[str, str]], optimizer: str) -> str:
    """By the mean loss over the seeds."""
    losses: dict[str, list[float]] = {}
    for row in rows:
        if row["optimizer"] == optimizer:
            losses.setdefault(row[RATE], []).append(float(row["loss/mean"]))
    return min(losses, key=lambda rate: float(np.mean(losses[rate])))


_ALL = (
    Ablation(
        "Does the balance loss matter for the loss?", "model.router.balance_loss", "gshard",
        "`gshard`, which the paper cites", name="balance",
    ),
    Ablation(
        "… by the number of experts?", "model.router.balance_loss", "gshard", "`gshard`",
        load_by="model.num_experts,model.router.balance_loss", name="balance_by_experts",
    ),
    Ablation(
        "Slots by gate: a lower loss than by position?", "model.priority", "position",
        "slots by position", good="lower",
        load_by="model.num_experts,model.capacity_factor,model.priority", name="priority",
    ),
    Ablation(
        "Does the capacity factor matter for the loss?", "model.capacity_factor", "2.0",
        "the paper's 2.0", name="capacity",
    ),
    Ablation(
        "Experts in every layer: a lower loss than in every other?", "model.moe_every", "2",
        "experts in every other layer", good="lower", name="moe_every",
        values={"1": "experts in every layer"},
    ),
    Ablation(
        "Gates that are not divided by their sum: another loss?", "model.router.normalize", "true",
        "gates divided by the sum of the chosen two", name="normalize",
        values={"False": "as the softmax leaves them"},
    ),
    Ablation(
        "The second expert at random: another loss?", "model.router.second_policy", "always",
        "a second expert always", name="second_expert",
        values={"random": "at random, by its gate"},
    ),
    Optimizers(
        "Adafactor or AdamW: another loss?", f"optimizer,{RATE}", "adamw,0.012", "AdamW at 0.012",
        name="optimizer",
    ),
)  # fmt: skip
ABLATIONS = {one.name: one for one in _ALL}


def section(name: str) -> str:
    """Claim, what was run, differences, scores and load of one ablation."""
    one = ABLATIONS[name]
    line = command(f"ablations/{name}")
    if not (STUDIES / one.table).is_file():
        return f"**Not trained yet.**\n\n{line}"
    parts = (
        one.claim(),
        line,
        ran(one.table),
        differences(one.table, one.key, one.baseline),
        scores(one.table, one.key, one.baseline),
        load(one.table, one.load_by or one.key),
        by_domain(one.table, one.key, one.baseline),
    )
    return "\n\n".join(str(part) for part in parts if part)


def summary() -> str:
    """A row an ablation."""
    rows = [[f"[{one.question}](#{anchor(one.name)})", _found(one)] for one in _ALL]
    return markdown(["question", "found"], rows)


def anchor(name: str) -> str:
    """Of the section: its heading is the name in words."""
    return name.replace("_", "-")


def _found(one: Ablation) -> str:
    try:
        return str(one.claim())
    except NotTrainedError:
        return "**Not trained yet.**"
