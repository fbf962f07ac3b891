"""The result of a study as a LaTeX table (booktabs), to be put into a paper by `\\input`."""

import re
from collections.abc import Sequence

import numpy as np

from glam.analysis.paired import Comparison, Contrast, StudyRow, combinations, domains, interval
from glam.reporting.study_figures import label_of
from glam.reporting.study_pairs import difference
from glam.units import DASH, fixed

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}


def as_latex(cells: Sequence[StudyRow], compared: Comparison, found: Sequence[Contrast]) -> str:
    """A row for all runs that differ in their seed alone: number of seeds, held-out loss of the
    mean and of each domain with half of its 95 % t interval, and the difference of the mean to the
    baseline, with a star where it is significant."""
    names = domains(cells)
    tested = {(one.label, one.difference.value): one for one in found if one.domain == "mean"}
    groups = combinations(cells, compared.key)
    several = any(label for _, label, _ in groups)
    head = ["" if compared.key in (None, "seed") else label_of(str(compared.key))]
    head += ["other keys"] * several + ["seeds", *names] + ["difference"] * bool(tested)
    rows: list[list[str]] = []
    for value, label, members in groups:
        row = ["" if value is None else str(value)] + [label] * several
        measured = [cell for cell in members if cell.loss("mean") is not None]
        row += [str(len(measured)), *(_loss(measured, name) for name in names)]
        row += [difference(tested.get((label, value)))] * bool(tested)
        rows.append(row)
    words = 1 + several
    return "\n".join(
        [
            "% Held-out loss in nats per token, mean over seeds; +- is half of a 95 % interval.",
            "% *: significant at 5 % after Holm's correction. Needs \\usepackage{booktabs}.",
            rf"\begin{{tabular}}{{{'l' * words}{'r' * (len(head) - words)}}}",
            r"\toprule",
            _line(head),
            r"\midrule",
            *map(_line, rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _loss(cells: Sequence[StudyRow], name: str) -> str:
    losses = [loss for cell in cells if (loss := cell.loss(name)) is not None]
    if not losses:
        return DASH
    around = interval(losses)
    half = f" ± {fixed((around[1] - around[0]) / 2)}" if around else ""
    return fixed(float(np.mean(losses))) + half


def _line(texts: Sequence[str]) -> str:
    return " & ".join(map(escaped, texts)) + r" \\"


def escaped(text: str) -> str:
    """Plain text in LaTeX: special characters escaped, signs of numbers as mathematics."""
    text = re.sub(r"[\\~^&%$#_{}]", lambda found: SPECIAL[found[0]], text)
    return text.replace("−", "$-$").replace("±", r"$\pm$").replace(DASH, "--")
