"""The ablations: of each the table, what is compared with what, and the question."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.pages.differences import compared, differences, load, scores
from experiments.pages.tables import NotTrainedError, path, ran
from experiments.pages.words import Claim, Good, markdown

OVER_BASELINE = "The mean held-out loss less that of {}, in nats per token, is for"


class Ablation(NamedTuple):
    question: str
    key: str  # several joined by commas
    baseline: str
    words: str  # the baseline's, in the claim
    good: Good = "either"
    load_by: str = ""  # the keys by which load is told; none: `key`
    only: Sequence[str] = ()  # values that the claim is of; none: all
    name: str = ""

    @property
    def table(self) -> str:
        return f"ablations/{self.name}/results.csv"

    def claim(self) -> Claim:
        what = OVER_BASELINE.format(self.words)
        return compared(
            self.table, self.key, self.baseline, what, good=self.good, only=self.only
        )


_ALL = (
    Ablation(
        "Does the balance loss matter for the loss?", "model.router.balance_loss", "gshard",
        "`gshard`, which the paper cites", name="balance",
    ),
    Ablation(
        "… by the number of experts?", "model.router.balance_loss", "gshard", "`gshard`",
        load_by=f"model.num_experts,model.router.balance_loss", name="balance_by_experts",
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
    ),
    Ablation(
        "Gates that are not divided by their sum: another loss?", "model.router.normalize", "true",
        "gates divided by the sum of the chosen two", name="normalize",
    ),
    Ablation(
        "The second expert at random: another loss?", "model.router.second_policy", "always",
        "a second expert always", name="second_expert",
    ),
)  # fmt: skip
ABLATIONS = {one.name: one for one in _ALL}
