"""Whether the rule holds where it was not fitted, and whether the default run gains by it."""

import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from experiments.learning_rate.fit import optimum
from experiments.learning_rate.sweep import ASIDE, RUNS, Row
from experiments.tables import finished
from glam.analysis.paired import interval
from glam.config import AUTO, ROOT, AdamWConfig, ModelConfig, RunConfig, TrainingConfig
from glam.config.optimizers.rate_rule import RateRule

# Widths and budgets that the sweep has none of.
UNSEEN = ((48, 750_000), (64, 3_000_000), (96, 1_500_000))
AROUND = (0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.8)  # times the rule's rate
SEEDS, SEEDS_OF_THE_DEFAULT = (200, 201, 202, 203), (0, 1, 2, 3, 4)
BEFORE = 0.012  # the default before the rule
# The rule holds with at most this regret and at least this gain [nats].
MOST_REGRET, LEAST_GAIN = 0.01, 0.02


def rate_of(rule: RateRule, model: ModelConfig, tokens: int) -> float:
    """As a run with `optimizer.learning_rate=auto` has it."""
    optimizer = AdamWConfig(learning_rate=AUTO, auto=rule)
    config = RunConfig(model=model, optimizer=optimizer, training=TrainingConfig(tokens=tokens))
    return config.optimizer_as_built.rate


def regrets(rule: RateRule) -> Iterator[Row]:
    """How much the loss at the rule's rate lies above the best of a scan around it."""
    for width, tokens in UNSEEN:
        rate = rate_of(rule, ModelConfig(d_model=width, d_ff=4 * width), tokens)
        sizes = (f"model.d_model={width}", f"model.d_ff={4 * width}", f"training.tokens={tokens}")
        scanned = [rounded(rate * times) for times in AROUND]
        rows = _trained(f"check-{width}-{tokens}", sizes, scanned, SEEDS)
        means = [_mean(rows, one) for one in scanned]
        log_best, curvature, at_edge = optimum(scanned, means)
        yield {
            "width": str(width),
            "tokens": str(tokens),
            "rate": f"{rate:g}",
            "best_rate": f"{np.exp(log_best):.3g}",
            "regret": f"{curvature * (np.log(rate) - log_best) ** 2 / 2:.4f}",
            "above_best_of_scan": f"{_mean(rows, rate) - min(means):.4f}",
            "at_edge": str(at_edge).lower(),
        }


def rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def default_run(rule: RateRule) -> Iterator[Row]:
    """The default run at the rule's rate minus the same at BEFORE, by seed, and the interval."""
    rate = rate_of(rule, ModelConfig(), TrainingConfig().tokens)
    rows = _trained("check-default", (), [rate, BEFORE], SEEDS_OF_THE_DEFAULT)
    by_rate = [
        {row["seed"]: float(row["loss/mean"]) for row in rows if _is(row, one)}
        for one in (rate, BEFORE)
    ]
    differences = [by_rate[0][seed] - by_rate[1][seed] for seed in sorted(by_rate[0])]
    around = interval(differences)
    for seed, difference in zip(sorted(by_rate[0]), differences, strict=True):
        yield {"seed": seed, "rate": f"{rate:g}", "difference": f"{difference:.4f}"}
    low, high = around or (float("nan"), float("nan"))
    words = f"{np.mean(differences):.4f} ({low:.4f} to {high:.4f})"
    yield {"seed": "mean", "rate": f"{rate:g}", "difference": words}


def _mean(rows: Sequence[Row], rate: float) -> float:
    return float(np.mean([float(row["loss/mean"]) for row in rows if _is(row, rate)]))


def _is(row: Row, rate: float) -> bool:
    return float(row["optimizer.learning_rate"]) == rate


def _trained(
    name: str, overrides: Sequence[str], rates: Sequence[float], seeds: Sequence[int]
) -> list[Row]:
    line = [
        f"study.name={name}",
        f"optimizer.learning_rate={','.join(f'{rate:g}' for rate in rates)}",
        f"seed={','.join(map(str, seeds))}",
        *(f"runs_dir={RUNS}", *ASIDE, *overrides),
    ]
    print(" ".join(("python run.py -m", *line)), flush=True)
    subprocess.run([sys.executable, "run.py", "-m", *line], cwd=ROOT, check=True)
    table = RUNS / "studies" / name / "study.csv"
    return finished(table, "optimizer.learning_rate", "seed", "loss/mean")
