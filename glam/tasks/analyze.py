"""`task=analyze`: what the experts of a trained run specialise in."""

from typing import TYPE_CHECKING, Any

from glam.config import AnalyzeTaskConfig, RunConfig
from glam.errors import UserError
from glam.tasks.trained import load_model, text_of, trained_run

if TYPE_CHECKING:
    from glam.data import Tokenizer
    from glam.evaluation.experts import Routes
    from glam.runs.record import Metrics


def analyze(config: RunConfig, overrides: list[str]) -> None:
    """Measure which token goes to which expert, keep what was found in the run's `analysis.json`
    and its report, and print it."""
    from glam.evaluation.experts import held_out_routes
    from glam.progress import track
    from glam.reporting import run_report
    from glam.reporting.specialisation import print_analysis
    from glam.runs.record import Metrics

    task = config.task
    assert isinstance(task, AnalyzeTaskConfig)
    run, config = trained_run(config, overrides)
    if not config.model.is_sparse:
        raise UserError(
            f"run={run.path.name} is dense: it has no experts to analyze; name a run with "
            f"model.num_experts of 2 or more"
        )
    run.check_files()
    run.check_writable("analysis.json")
    prepared = text_of(run, config)
    model = load_model(run, config)
    routes = held_out_routes(
        model,
        prepared,
        sequence_length=config.training.sequence_length,
        batch_size=config.training.batch_size,
        max_tokens=config.evaluation.tokens_per_domain,
        domains=track(prepared.domains, "route", len(prepared.domains), "domains"),
    )
    metrics = Metrics.read(run.metrics_file)
    found = analysis_of(routes, prepared.tokenizer, metrics, config.model.num_experts, config)
    run.write_json("analysis.json", found)
    print_analysis(found, run_report(run.path))


def analysis_of(
    routes: "Routes",
    tokenizer: "Tokenizer",
    metrics: "Metrics",
    num_experts: int,
    config: RunConfig,
) -> dict[str, Any]:
    """What `analysis.json` holds."""
    import numpy as np

    from glam.analysis.specialisation.analyse import analyse, over_training
    from glam.analysis.specialisation.labels import Documents, Labels
    from glam.evaluation.experts.token_classes import CLASSES, token_classes
    from glam.progress import track

    task = config.task
    assert isinstance(task, AnalyzeTaskConfig)
    documents = Documents(routes.offsets, routes.domains)
    pieces = tokenizer.pieces()
    labels = [
        Labels("token", routes.tokens, pieces),
        Labels("class", token_classes(pieces)[routes.tokens], list(CLASSES)),
        Labels("domain", routes.domains[documents.of_token], routes.names, of_documents=True),
    ]
    found = analyse(
        routes.experts,
        num_experts,
        labels,
        documents,
        shuffles=task.shuffles,
        seed=config.seed,
        track=lambda layers: track(layers, "shuffle", len(routes.experts), "layers"),
    )
    counts = np.bincount(routes.domains, minlength=len(routes.names)).tolist()
    by_domain = dict(zip(routes.names, counts, strict=True))
    return found | {"documents_by_domain": by_domain, "training": over_training(metrics)}
