"""Run folders of real shape, written in milliseconds."""

import csv
import dataclasses
import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from glam.config import ModelConfig, RunConfig, TrainingConfig

DOMAINS = ("speeches", "scripture", "wikipedia", "reviews", "tweets")
FLOOR = {"speeches": 3.71, "scripture": 3.32, "wikipedia": 4.21, "reviews": 3.98, "tweets": 4.46}
BYTES_PER_TOKEN = 3.4

RunWriter = Callable[..., Path]


@pytest.fixture
def rows_of() -> Callable[..., list[dict[str, Any]]]:
    return study_rows


@pytest.fixture
def rows_by_experts() -> Callable[..., list[dict[str, Any]]]:
    return expert_rows


@pytest.fixture
def write_run(tmp_path: Path) -> RunWriter:
    return lambda **shape: sample_run(tmp_path / "runs", **shape)


def sample_run(
    runs: Path,
    *,
    experts: int = 16,
    layers: int = 4,
    domains: tuple[str, ...] = DOMAINS,
    seed: int = 0,
    diverged: bool = False,
) -> Path:
    """A finished run: curves that fall as power laws, loads that even out, text to show."""
    config = RunConfig(model=ModelConfig(num_layers=layers, num_experts=experts), seed=seed)
    random = np.random.default_rng(seed)
    run = runs / f"glam_tiny-{experts}e-filtered-s{seed}-{random.bytes(5).hex()}"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))
    moe_layers = list(range(1, layers, 2)) if experts > 1 else []
    loads = {layer: random.dirichlet(np.full(experts, 2.0)) for layer in moe_layers}
    rows = _metrics(config.training, domains, loads, random, diverged)
    with (run / "metrics.csv").open("w", newline="") as file:
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows(rows)
    share = [[(random.dirichlet(40 * load)).tolist() for _ in domains] for load in loads.values()]
    routing = {"layers": moe_layers, "domains": list(domains), "share": share}
    summary = summarize(config, domains, loads, diverged=diverged)
    files = {"routing": routing, "summary": summary, "data": _data(), "generated": _generated()}
    for name, content in files.items():
        if name != "routing" or moe_layers:
            (run / f"{name}.json").write_text(json.dumps(content))
    return run


def _metrics(
    training: TrainingConfig,
    domains: tuple[str, ...],
    loads: dict[int, Any],
    random: np.random.Generator,
    diverged: bool,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    steps = range(0, training.num_steps + 1, 20)
    for i, step in enumerate(steps):
        tokens, progress = step * training.tokens_per_step, step / training.num_steps
        if diverged and progress > 0.6:
            break
        above = 3.9 * math.exp(-7 * progress) + 0.5 * (1 - progress)
        row: dict[str, Any] = {
            "step": step,
            "tokens": tokens,
            "train_seconds": step * 0.035,
            "joules": step * 0.21,
            "loss": 3.9 + above + random.normal(0, 0.06),
            "learning_rate": 0.012 * min(progress / 0.05, (1 - progress) / 0.95),
            "tokens_per_second": 28_400 + random.normal(0, 300),
            "balance_loss": 0.011 + 0.02 * above if loads else 0.0,
            "grad_norm": 0.4 + 0.3 * above + abs(random.normal(0, 0.03)),
            "skipped": 0,
        }
        for name in domains:
            row[f"loss/{name}"] = FLOOR.get(name, 4.0) - 0.1 + above + random.normal(0, 0.12)
        if i % 12 == 0:
            held_out = {n: FLOOR.get(n, 4.0) + above + random.normal(0, 0.01) for n in domains}
            row.update({f"held_out/{name}": value for name, value in held_out.items()})
            row["held_out/mean"] = sum(held_out.values()) / len(held_out)
            for layer, load in loads.items():
                share = random.dirichlet(200 * ((1 - progress) * load + progress / len(load)))
                row.update({f"load/{layer}/{e}": value for e, value in enumerate(share)})
                row[f"dropped/{layer}"] = 0.0
        rows.append(row)
    if diverged:
        rows[-1]["loss"] = math.nan
    return rows


def summarize(
    config: RunConfig,
    domains: tuple[str, ...] = DOMAINS,
    loads: dict[int, Any] | None = None,
    *,
    diverged: bool = False,
    gain: float = 0.0,
) -> dict[str, Any]:
    loss = {} if diverged else {name: FLOOR.get(name, 4.0) - gain for name in domains}
    loss = {"mean": sum(loss.values()) / len(loss), **loss} if loss else {}
    flops = config.flops_per_token
    return {
        "status": "diverged" if diverged else "done",
        "id": "0123456789",
        "name": f"glam_tiny-{config.model.num_experts}e-filtered-s{config.seed}",
        "study": None,
        "loss": loss,
        "bits_per_byte": {
            name: value / math.log(2) / BYTES_PER_TOKEN for name, value in loss.items()
        },
        "parameters": {
            "total": config.model.num_params,
            "active": config.model.num_active_params,
            "embedding": config.model.num_embedding_params,
        },
        "flops_per_token": {"forward": flops, "active": 3 * flops},
        "tokens": config.training.num_steps * config.training.tokens_per_step,
        "tokens_per_second": 28_412.7,
        "train_seconds": 176.0,
        "energy": {
            "joules": 2640.0,
            "evaluation_joules": 300.0,
            "preparation_joules": 150.0,
            "joules_per_million_tokens": 528.0,
            "joules_per_nat": 730.0,
            "source": "modelled: 15 W for one busy core",
        },
        "load": [
            {
                "layer": layer,
                "busiest": float(load.max() * len(load)),
                "idlest": float(load.min() * len(load)),
                "dropped": 0.0,
            }
            for layer, load in (loads or {}).items()
        ],
        "skipped_steps": 50 if diverged else 0,
        "seed": config.seed,
        "config_fingerprint": "0123456789abcdef",
        "data_fingerprint": "fedcba9876543210",
        "git": "4f2a91c0b7de",
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "threads": 1,
        "precision": "bfloat16",
        "device": "cpu",
    }


def _data() -> dict[str, Any]:
    funnel = [
        *_funnel("speeches", "books", "curated", (249, 249, 12, 237, 9_870, 9_870), 49_000),
        *_funnel("scripture", "books", "curated", (1_189, 1_189, 59, 1_130, 3_420, 3_420), 3_600),
        *_funnel("wikipedia", "wikipedia", "held out", (106, 106, 106, 0, 0, 0), 28_000),
        *_funnel(
            "reviews", "webpages", "pool", (64_720, 32_872, 1_640, 31_232, 42_860, 5_360), 1_020
        ),
        *_funnel("tweets", "webpages", "pool", (46_188, 36_118, 1_806, 34_312, 34_312, 2_100), 108),
    ]
    kept = "The Congress of the United States has, at its last session, provided for the relief of "
    dropped = "omg <3 this film was sooo goooood!!! watch it NOW & tell ur friends :) #movie $$$ "
    samples = {
        "kept": [
            {"source": "reviews", "score": 0.93, "text": kept * 6},
            {"source": "reviews", "score": 0.88, "text": "A sober, beautifully lit account of a "
             "lawyer's last case.\nIt earns its silences."},
        ],
        "dropped": [
            {"source": "tweets", "score": 0.04, "text": dropped},
            {"source": "reviews", "score": 0.11, "text": "Don't bother." + " Bad." * 40},
        ],
    }  # fmt: skip
    return {
        "fingerprint": "fedcba9876543210",
        "funnel": funnel,
        "samples": samples,
        "epochs": {"webpages": 1.31, "books": 0.44},
    }


def _funnel(
    source: str, component: str, role: str, documents: tuple[int, ...], characters_each: int
) -> list[dict[str, Any]]:
    """Documents after each step, pages from there on; a page has its part of the characters."""
    same = {"source": source, "component": component, "role": role}
    steps = ("read", "distinct", "held out", "training", "pages", "kept")
    per_page = characters_each * documents[3] / max(documents[4], 1)
    return [
        {
            **same,
            "step": step,
            "documents": count,
            "characters": round(count * (per_page if i >= 4 else characters_each)),
            "tokens": round(count * per_page / 3.4) if i >= 4 else None,
        }
        for i, (step, count) in enumerate(zip(steps, documents, strict=True))
    ]


def _generated() -> list[dict[str, Any]]:
    text = " the United States, and of the several States, have been made for the benefit of the "
    return [
        {"prompt": "The people of", "text": text * 3, "temperature": 0.8},
        {"prompt": "In the beginning", "text": " was the house of the LORD.", "temperature": 0.8},
    ]


def study_rows(
    values: list[dict[str, Any]], gain: Callable[[dict[str, Any]], float]
) -> list[dict[str, Any]]:
    """Rows as `glam.studies` gathers them; `gain` is what a cell's values take off the loss."""
    rows: list[dict[str, Any]] = []
    for one in values:
        experts, seed = one.get("model.num_experts", 16), one.get("seed", 0)
        config = RunConfig(model=ModelConfig(num_experts=experts), seed=seed)
        summary = summarize(config, ("reviews", "tweets"), gain=gain(one))
        speed = 38_000 if experts == 1 else 28_000 - 60 * experts
        summary |= {"tokens_per_second": speed, "train_seconds": summary["tokens"] / speed}
        name = f"glam_tiny-{experts}e-filtered-s{seed}-{zlib.crc32(str(one).encode()):010x}"
        row = {"run": name, "values": one, "summary": summary, "status": "done", "error": None}
        rows.append(row)
    return rows


def expert_rows(
    experts: tuple[int, ...] = (1, 4, 8, 16, 32), seeds: int = 3
) -> list[dict[str, Any]]:
    """A study of the number of experts as the paper's claim has it, with noise by seed."""
    random = np.random.default_rng(7)
    by_seed = random.normal(0, 0.01, seeds)
    values = [{"model.num_experts": e, "seed": s} for e in experts for s in range(seeds)]
    return study_rows(
        values,
        lambda one: (
            0.014 * math.log2(one["model.num_experts"])
            + by_seed[one["seed"]]
            + random.normal(0, 0.002)
        ),
    )


@pytest.fixture
def funnel_rows() -> list[dict[str, Any]]:
    """Of one source, two steps."""
    return [
        {
            "source": "web",
            "component": "webpages",
            "role": "pool",
            "step": "read",
            "documents": 1000,
            "characters": 2_000_000,
            "megabytes": 2.04,
            "tokens": None,
            "bad_records": {"not JSON": 3, "empty": 1200},
        },
        {
            "source": "web",
            "component": "webpages",
            "role": "pool",
            "step": "distinct",
            "documents": 900,
            "characters": 1_500_000,
            "megabytes": 1.53,
            "tokens": None,
            "exact_copies": 60,
            "near_copies": 40,
        },
    ]
