"""`python -m experiments.scaling_law.beyond`: a size that the law has not seen, predicted by it.
Writes beyond.csv.

All forms of the law are fitted to `experiments/scaling_law/results.csv`, and predict `glam_mini`
of `experiments/expert_scaling/results.csv`, which has four times the active parameters of the
largest model in the fit.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.scaling_law.tables import COLUMNS, KNOWN, NEW, runs_of
from experiments.tables import finished, refuse, write
from glam.analysis.forecast import predict_held_out
from glam.analysis.law_forms import FORMS
from glam.analysis.scaling_law import fit

MODEL = "glam_mini"
BEYOND = KNOWN.parent / "beyond.csv"
HEADS = ("model", "experts", "form", "measured", "predicted", "low", "high", "where")


def rows(known: Path, new: Path) -> Iterator[dict[str, str]]:
    """A row for each form and number of experts. Raises SystemExit where the law has the size."""
    seen = finished(known, "model", *COLUMNS)
    if any(row["model"] == MODEL for row in seen):
        refuse(f"{known} has {MODEL}, which is no size that its law has not seen")
    measured = runs_of([r for r in finished(new, "model", *COLUMNS) if r["model"] == MODEL])
    for form in FORMS:
        law = fit(runs_of(seen), form)
        for count in np.unique(measured.experts).tolist():
            cell = measured.where(measured.experts == count)
            one = predict_held_out(law, cell, np.random.default_rng(1))
            numbers = (one.measured, one.predicted, *one.interval)
            where = "inside" if one.is_inside else "outside"
            told = (MODEL, f"{count:.0f}", form, *(f"{number:.3f}" for number in numbers), where)
            yield dict(zip(HEADS, told, strict=True))


if __name__ == "__main__":
    write(BEYOND, HEADS, list(rows(KNOWN, NEW)))
