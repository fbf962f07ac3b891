"""`summary.json`: the contract between a run and whoever reads it (design: what a run leaves)."""

import importlib.metadata
import math
import platform
import subprocess
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import glam
from glam.config import AUTO, ROOT, RunConfig
from glam.machine.peaks import utilization
from glam.machine.resources import Resources
from glam.runs.folder import RunFolder
from glam.runs.identity import code_fingerprint, fingerprint

if TYPE_CHECKING:
    from glam.evaluation import DomainResult
    from glam.training import TrainingResult

PACKAGES = ("torch", "lightning", "hydra-core", "sentencepiece", "datasets", "scikit-learn")


def summarize(
    config: RunConfig,
    run: RunFolder,
    resources: Resources,
    result: "TrainingResult",
    domains: "dict[str, DomainResult]",
    data_fingerprint: str,
) -> dict[str, Any]:
    """All figures of a finished run. Losses are nats per token on held-out whole documents; the
    mean weighs every domain alike; parameters leave the embedding out, as the paper counts."""
    model = config.model
    return {
        "status": result.status,
        "diverged": result.why_diverged,
        "id": run.id,
        "name": run.path.name,
        "study": config.study.name,
        "cell": config.study.cell,
        **losses_of(domains),
        "num_experts": model.num_experts,
        "parameters": {
            "total": model.num_params,
            "active": model.num_active_params,
            "embedding": model.num_embedding_params,
        },
        "flops_per_token": {
            "forward": config.flops_per_token,  # every product: attention and output too
            "active": 2 * model.num_active_params,  # the usual short-hand, without those
        },
        "tokens": result.tokens,
        "tokens_per_second": result.tokens_per_second,
        "mfu": utilization(config, result.tokens_per_second, result.peak_flops),
        "train_seconds": result.train_seconds,
        "load": result.load,
        "skipped_steps": result.skipped_steps,
        "rollbacks": [asdict(rollback) for rollback in result.rollbacks],
        "seed": config.seed,
        "learning_rate": config.optimizer_as_built.rate,
        "learning_rate_by": "auto" if config.optimizer.learning_rate == AUTO else "number",
        "threads": resources.threads,
        "precision": resources.precision,
        "device": resources.device,
        "config_fingerprint": fingerprint(config, resources),
        "code_fingerprint": code_fingerprint(),
        "data_fingerprint": data_fingerprint,
        "machine": result.machine,
        "git": git_revision(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version(), "glam": glam.__version__},
    }


def energy_of(
    config: RunConfig, summary: dict[str, Any], spent: dict[str, float], source: str
) -> dict[str, Any]:
    """Joules of training, and apart those of evaluation and preparation. A nat is gained where
    the mean held-out loss falls below that of a model that knows nothing, ln(vocabulary)."""
    joules, loss = spent["training"], summary["loss"].get("mean")
    gained = math.log(config.model.vocab_size) - loss if loss is not None else 0.0
    return {
        "joules": joules,
        "evaluation_joules": spent["evaluation"],
        "preparation_joules": spent["preparation"],
        "joules_per_million_tokens": 1e6 * joules / summary["tokens"],
        "joules_per_nat": joules / gained if gained > 0 else None,
        "source": source,
    }


def losses_of(domains: "dict[str, DomainResult]") -> dict[str, dict[str, float]]:
    """Loss, that on documents without overlap, and bits per byte, by domain and their mean. A mean
    of clean losses is over the same domains as that of losses, or there is none."""
    clean = {name: d.clean.loss for name, d in domains.items() if d.clean is not None}
    return {
        "loss": with_mean({name: d.loss for name, d in domains.items()}),
        "clean_loss": with_mean(clean) if len(clean) == len(domains) else clean,
        "bits_per_byte": with_mean({name: d.bits_per_byte for name, d in domains.items()}),
    }


def with_mean(values: dict[str, float]) -> dict[str, float]:
    """The values under their names, and first their unweighted mean; empty stays empty."""
    return {"mean": sum(values.values()) / len(values), **values} if values else {}


def git_revision() -> str | None:
    """The commit, `-dirty` behind it where the tree differs; None outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
