"""Tasks of a study: scores by the swept key, and paired differences, as of losses."""
# matplotlib's stubs leave its keywords untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glam.analysis.paired import (
    EXPERTS,
    Comparison,
    Contrast,
    StudyRow,
    contrasts,
    domains,
    values_of,
)
from glam.analysis.tasks import chances, scored
from glam.reporting import study_figures as figures
from glam.reporting import study_pairs
from glam.reporting.page import Plot
from glam.reporting.study_words import difference_of, reference_words
from glam.reporting.theme import FONT, Theme, plain
from glam.units import counted, fixed

Y_LABEL = "score"
MARGIN = 0.03  # of an axis, beyond the scale of scores


class Tasks:
    """What a study's page says of its tasks; nothing where no two runs were asked the same."""

    def __init__(self, cells: Sequence[StudyRow], compared: Comparison) -> None:
        self.rows, self.compared, self.chances = scored(cells), compared, chances(cells)
        self.names = [
            name
            for name in domains(self.rows)
            if any(row.loss(name) is not None for row in self.rows)
        ]
        self.found: list[Contrast] = contrasts(self.rows, compared) if self.names else []

    def section(self) -> dict[str, Any] | None:
        """Scores along the swept key, a panel a task."""
        key = self.compared.key
        if not self.names or key is None:
            return None
        plots: list[Plot] = figures.on_page(self._draw(key), self.names, "task", self._words)
        title = "Tasks by number of experts" if key == EXPERTS else f"Tasks by {_label(key)}"
        return {
            "id": "tasks",
            "title": title,
            "caption": self._caption(),
            "plots": plots,
            "kind": "small",
        }

    def papers(self) -> tuple[str, Figure, Figure] | None:
        """The name of the figure's files, and the figure for paper and for a column of it."""
        key = self.compared.key
        if not self.names or key is None:
            return None
        draw = self._draw(key)
        stem = f"tasks_by_{_label(key)}".replace(" ", "_").replace("/", "_")
        paper = figures.on_paper(draw, self.names, Y_LABEL)
        return stem, paper, figures.in_column(draw, self.names, Y_LABEL)

    def pairs(self) -> dict[str, Any] | None:
        """The table of paired differences."""
        return study_pairs.table(self.compared, self.found, study_pairs.TASKS)

    def finding(self) -> list[str]:
        """The largest difference of the mean score, with its test."""
        means = [one for one in self.found if one.domain == "mean"]
        if not means or self.compared.key is None:
            return []
        best = max(means, key=lambda one: one.difference.mean)
        named = f"{_label(self.compared.key)} {best.difference.value}"
        where = f" ({best.label})" if best.label else ""
        return [
            f"Mean score over {counted(len(self.names) - 1, 'task')} with {named} against "
            f"{reference_words(self.compared.key, self.compared.reference)}: "
            f"{difference_of(best)}{where}."
        ]

    def _draw(self, key: str) -> figures.Draw:
        by_key = figures.loss_by(self.rows, key)

        def draw(axes: Axes, theme: Theme, name: str) -> None:
            by_key(axes, theme, name)
            axes.set_ylim(_within_scale(*axes.get_ylim()))
            chance = self.chances.get(name)
            if chance is None:
                return
            low, high = axes.get_ylim()
            if low <= chance <= high:
                axes.axhline(chance, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
            axes.set_title(
                f"chance {fixed(chance, 2)}", loc="right", color=theme.muted, fontsize=FONT
            )

        return draw

    def _words(self, name: str) -> str:
        key = self.compared.key or ""
        found: list[str] = []
        for value in values_of(key, self.rows):
            mine = [row.loss(name) for row in self.rows if row.values.get(key) == value]
            if scores := [score for score in mine if score is not None]:
                found.append(f"{value}: {fixed(float(np.mean(scores)))}")
        return f"Score, {plain(name)}, by {_label(key)}: {', '.join(found)}."

    def _caption(self) -> str:
        words = (
            "Share of items that a run gets right; higher is better. A dot is a run; the line "
            "joins the means over the seeds. All panels span the same share."
        )
        if self.chances:
            words += " Chance is what guessing scores; its line is drawn where it is in the panel."
        return words


def _within_scale(low: float, high: float) -> tuple[float, float]:
    """Limits of an axis, moved to where scores can lie: 0 to 1, with a margin."""
    if high - low >= 1 + 2 * MARGIN:
        return -MARGIN, 1 + MARGIN
    moved = max(0.0, -MARGIN - low) - max(0.0, high - 1 - MARGIN)
    return low + moved, high + moved


def _label(key: str) -> str:
    return figures.label_of(key)
