"""What the blocks of pages may call."""

from collections.abc import Callable

from experiments.pages import (
    ablations,
    compiled,
    copied_text,
    differences,
    embedded_tasks,
    exactness,
    growths,
    laws,
    learning_rates,
    overlap,
    peers,
    predictions,
    recipe_speeds,
    serving,
    speeds,
    spent,
    tools,
    upcycling,
)
from experiments.pages.claims import claim
from experiments.pages.commands import command
from experiments.pages.overview import extent, overview, program_costs
from experiments.pages.tables import ran

FUNCTIONS: dict[str, Callable[..., object]] = {
    "claim": claim,
    "command": command,
    "extent": extent,
    "ran": ran,
    "overview": overview,
    "program_costs": program_costs,
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
            predictions.predicted, predictions.memory_table, predictions.throughput_table,
            predictions.paper_numbers, predictions.paper_table,
            speeds.speed_table, speeds.step_cost, speeds.shapes, speeds.with_kernels,
            speeds.bench_machine,
            speeds.writing, speeds.writing_alone,
            recipe_speeds.copies, recipe_speeds.recipe, recipe_speeds.scoring,
            recipe_speeds.cutting, recipe_speeds.overhead, recipe_speeds.stages, recipe_speeds.avx2,
            exactness.same_within_noise, exactness.noise_table, exactness.operations_table,
            exactness.worst_operation,
            copied_text.copies_found, copied_text.planted_table, copied_text.embedded_copies,
            copied_text.loss_without_copies, copied_text.copies_cost, overlap.overlap_found,
            overlap.overlap_table, overlap.overlap_cost,
            growths.grows_as_counted, growths.departures, growths.part_table, growths.two_threads,
            growths.run_time, growths.install_table,
            compiled.fits_a_tpu, compiled.compiled_table, compiled.sent_table, compiled.moved,
            compiled.shares_table, tools.tools,
            growths.pace, peers.beside_peers, peers.peer_table,
            upcycling.upcycled_over_dense, serving.thresholds, serving.pools,
        )
    },
}  # fmt: skip
