"""The LaTeX table of a study."""

import re
from collections.abc import Callable
from typing import Any

from glam.analysis.paired import EXPERTS, Comparison, StudyRow, contrasts
from glam.reporting.study_latex import as_latex, escaped


def test_every_line_has_a_cell_for_every_column(
    rows_by_experts: Callable[..., list[dict[str, Any]]],
) -> None:
    cells = [StudyRow.of(row) for row in rows_by_experts(experts=(1, 4, 8), seeds=3)]
    compared = Comparison(key=EXPERTS, reference=1)

    table = as_latex(cells, compared, contrasts(cells, compared))

    columns = re.search(r"begin\{tabular\}\{(\w+)\}", table)
    assert columns is not None
    lines = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert [line.count("&") + 1 for line in lines] == [len(columns[1])] * 4
    assert lines[0].startswith("experts & seeds & mean & reviews & tweets & difference")
    assert lines[1].endswith(r"-- \\")  # the baseline itself


def test_names_are_plain_text_to_latex() -> None:
    assert escaped(r"50%_a&b\c{d}") == r"50\%\_a\&b\textbackslash{}c\{d\}"
    assert escaped("−0.030 ± 0.010*") == r"$-$0.030 $\pm$ 0.010*"
