"""`task=evaluate`: held-out loss per domain of a trained run."""

from typing import TYPE_CHECKING

from glam.config import RunConfig
from glam.machine.processes import SINGLE, Processes
from glam.tasks.summary import with_mean
from glam.tasks.trained import load_model, text_of, trained_run

if TYPE_CHECKING:
    from glam.data import PreparedData
    from glam.evaluation import DomainResult
    from glam.model import Glam


def evaluate(config: RunConfig, overrides: list[str]) -> None:
    """Evaluate a run, print its losses and keep them in its `evaluation.json`."""
    from glam.reporting.console import print_losses

    run, config = trained_run(config, overrides)
    run.check_files()
    run.check_writable("evaluation.json")
    prepared = text_of(run, config)
    model = load_model(run, config)
    domains = held_out_losses(config, model, prepared)
    losses = with_mean({name: domain.loss for name, domain in domains.items()})
    bits = with_mean({name: domain.bits_per_byte for name, domain in domains.items()})
    run.write_json("evaluation.json", {"loss": losses, "bits_per_byte": bits})
    print_losses(losses, bits)


def held_out_losses(
    config: RunConfig, model: "Glam", prepared: "PreparedData", processes: Processes = SINGLE
) -> "dict[str, DomainResult]":
    """By domain, on `evaluation.tokens_per_domain` tokens of each, under a bar."""
    from glam.evaluation import evaluate_domains
    from glam.progress import track

    return evaluate_domains(
        model,
        prepared,
        sequence_length=config.training.sequence_length,
        batch_size=config.training.batch_size,
        max_tokens=config.evaluation.tokens_per_domain,
        domains=track(prepared.domains, "evaluate", len(prepared.domains), "domains"),
        processes=processes,
    )
