"""Tables of studies as the runs that a law is fitted to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.tables import finished
from glam.analysis.scaling_law import Runs

HERE = Path(__file__).parent
KNOWN, NEW = HERE / "results.csv", HERE.parent / "expert_scaling" / "results.csv"
COLUMNS = ("parameters/active", "model.num_experts", "tokens", "loss/mean", "seed")


def known() -> Runs:
    return runs_of(finished(KNOWN, *COLUMNS))


def runs_of(rows: Sequence[dict[str, str]]) -> Runs:
    active, experts, tokens, loss, seed = (
        np.array([float(row[name]) for row in rows]) for name in COLUMNS
    )
    # FLOPs are what budgets are made of: two a parameter do where none is asked for.
    flops = 2 * active
    return Runs(
        active=active, experts=experts, tokens=tokens, loss=loss, flops=flops,
        seed=seed.astype(np.int64),
    )  # fmt: skip
