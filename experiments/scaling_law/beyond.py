"""`python -m experiments.scaling_law.beyond`: a size that the law has not seen, predicted by it.

All forms of the law are fitted to `experiments/scaling_law/results.csv`, and predict `glam_mini`
of `experiments/expert_scaling/results.csv`, which has four times the active parameters of the
largest model in the fit. Prints a table in Markdown.
"""

from pathlib import Path

import numpy as np

from experiments.scaling_law.tables import COLUMNS, KNOWN, NEW, runs_of
from experiments.tables import finished
from glam.analysis.forecast import predict_held_out
from glam.analysis.law_forms import FORMS
from glam.analysis.scaling_law import fit

MODEL = "glam_mini"


def table(known: Path, new: Path) -> str:
    laws = [fit(runs_of(finished(known, *COLUMNS)), form) for form in FORMS]
    measured = runs_of([r for r in finished(new, "model", *COLUMNS) if r["model"] == MODEL])
    forms = " | ".join(f"{form}, predicted | " for form in FORMS)
    lines = [f"| experts | measured | {forms} |", "| --- " * (2 + 2 * len(FORMS)) + "|"]
    for count in np.unique(measured.experts).tolist():
        cell = measured.where(measured.experts == count)
        row = [f"{count:.0f}"]
        for law in laws:
            one = predict_held_out(law, cell, np.random.default_rng(1))
            if len(row) == 1:
                row.append(f"{one.measured:.3f}")
            low, high = one.interval
            where = "inside" if one.is_inside else "outside"
            row += [f"{one.predicted:.3f} ({low:.3f} to {high:.3f})", where]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(KNOWN, NEW))
