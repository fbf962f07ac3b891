"""What the blocks of pages may call."""

from collections.abc import Callable

from experiments.pages import (
    ablations,
    differences,
    embedded_tasks,
    laws,
    learning_rates,
    serving,
    spent,
    upcycling,
)
from experiments.pages.claims import claim
from experiments.pages.commands import command
from experiments.pages.overview import extent, overview
from experiments.pages.tables import ran

FUNCTIONS: dict[str, Callable[..., object]] = {
    "claim": claim,
    "command": command,
    "extent": extent,
    "ran": ran,
    "overview": overview,
    "ablation": ablations.section,
    "ablations": ablations.summary,
    **{
        one.__name__: one
        for one in (
            differences.differences, differences.scores, differences.by_domain, differences.load,
            spent.doublings, spent.spent, spent.by_seconds, spent.seconds_by_domain, spent.paces,
            spent.energies,
            laws.law_table, laws.best_counts, laws.planned_grid, laws.covered, laws.parabolas,
            laws.independent, laws.beyond, laws.lead_table,
            learning_rates.planned_sweep, learning_rates.best_rates, learning_rates.absent_scans,
            learning_rates.rule, learning_rates.unseen,
            embedded_tasks.task_scores, embedded_tasks.demonstrations, embedded_tasks.task_seconds,
            upcycling.upcycled_over_dense, serving.thresholds, serving.pools,
        )
    },
}  # fmt: skip
