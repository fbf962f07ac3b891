"""`python -m experiments.serving.measure <run folder> [cache_dir]`: what a trained run loses, and
what it costs, with fewer experts, in fewer bytes and in less memory; writes `results.csv` and
`memory.csv`, and draws `serving.png`."""

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import glam
from experiments.benchmarks.timing import machine
from glam.config import ModelConfig, RunConfig
from glam.evaluation import Sampling, evaluate_domains, mean_loss
from glam.model import Glam
from glam.model.decoding.continue_tokens import continue_tokens
from glam.model.decoding.serve import serve
from glam.model.decoding.served_weights import quantize
from glam.model.moe.experts import Experts
from glam.model.moe.router import Router
from glam.runs.checkpoints import step_folder
from glam.runs.folder import RunFolder
from glam.tasks.trained import text_of
from glam.training.checkpoint import FolderCheckpointIO

HERE = Path(__file__).parent
THRESHOLDS = (-1.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
TYPES = {"float32": 4, "int8": 1}  # bytes of a weight of an expert
TOKENS = 8192  # held out, of each domain
LARGE = ModelConfig(num_layers=4, d_model=256, d_ff=1024, num_heads=4, num_experts=64)  # untrained
POOLS = (None, 128.0, 32.0, 4.0)  # MB, of which its experts take 268 in float32
WRITTEN = 128  # tokens after a prompt of as many


def main(path: str, cache: str = "cache") -> None:
    run = glam.load(path, device="cpu")
    rows = list(losses(run.model, path, cache))
    _write(HERE / "results.csv", rows)
    with tempfile.TemporaryDirectory() as folder:
        large = save_large(Path(folder))
        memory = [_in_a_fresh_process(large, kind, pool) for kind in TYPES for pool in POOLS]
    _write(HERE / "memory.csv", memory)
    (HERE / "machine.txt").write_text(machine() + "\n")
    draw(rows, memory)


def losses(model: Glam, path: str, cache: str) -> Iterator[dict[str, object]]:
    """Held-out loss with int8 experts or not, for every threshold."""
    run = glam.load(path, device="cpu")
    prepared = text_of(RunFolder(run.path), replace(run.config, cache_dir=cache))
    training, base = run.config.training, None
    for kind, width in TYPES.items():
        if kind == "int8":
            round_experts(model)
        for threshold in THRESHOLDS:
            model.use_experts_above(threshold)
            with counting(model) as active:
                loss = mean_loss(
                    evaluate_domains(
                        model,
                        prepared,
                        sequence_length=training.sequence_length,
                        batch_size=training.batch_size,
                        max_tokens=TOKENS,
                    )
                )
            base = loss if base is None else base
            used = active()
            yield {
                "experts": kind,
                "threshold": "all" if threshold < 0 else threshold,
                "active_experts": used,
                "loss": loss,
                "more_loss": loss - base,
                "flops_per_token": flops(model, training.sequence_length, used),
                "bytes_per_token": bytes_read(model, used, width),
            }


@torch.no_grad()
def round_experts(model: Glam) -> None:
    """Experts as int8 holds them."""
    for part in model.modules():
        if isinstance(part, Experts):
            for matrix in (*part.w_in_EMH.data, *part.w_out_EHM.data):
                rounded = torch.empty(matrix.shape, dtype=torch.int8)
                scales = torch.empty(matrix.shape[1])
                quantize(matrix, rounded, scales)
                matrix.copy_(rounded * scales)


@contextmanager
def counting(model: Glam) -> Generator[Callable[[], float]]:
    """Counts the experts of a token; the value is a function that tells them."""
    sums = [0, 0]

    def count(_: object, __: object, output: tuple[tuple[Tensor, Tensor, Tensor], Tensor]) -> None:
        gates = output[0][1]
        sums[0] += int((gates > 0).sum())
        sums[1] += len(gates)

    routers = [part for part in model.modules() if isinstance(part, Router)]
    hooks = [router.register_forward_hook(count) for router in routers]
    yield lambda: sums[0] / sums[1]
    for hook in hooks:
        hook.remove()


def flops(model: Glam, length: int, active: float) -> float:
    """Forward FLOPs of a token, with so many experts of each layer."""
    parts = model.config.flops_by_part(length)
    return sum(parts) - parts.experts * (1 - active / model.config.top_k)


def bytes_read(model: Glam, active: float, width: int) -> float:
    """Of weights, for a token that is written alone: those of the dense layers in float32."""
    config = model.config
    expert = 2 * config.d_model * config.d_ff
    experts = config.num_moe_layers * expert * active
    every = config.num_moe_layers * expert * config.top_k
    dense = config.num_active_params - every + config.num_embedding_params
    return 4 * dense + width * experts


def save_large(folder: Path) -> str:
    """A run of the large model, whose routers prefer; its experts are most of its memory."""
    run, model = RunFolder(folder / "large"), Glam(LARGE)
    run.path.mkdir()
    run.write_config(RunConfig(model=LARGE))
    for part in model.modules():
        if isinstance(part, Router):
            part.w_ME.data.normal_(0, 1)
    checkpoint = {
        "pytorch-lightning_version": "2.6.6",
        "epoch": 0,
        "global_step": 1,
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "training": {"step": 1, "tokens": 1, "status": "done"},
    }
    place = step_folder(run.path / "checkpoints", 1)
    FolderCheckpointIO({}).save_checkpoint(checkpoint, place)
    return str(run.path)


def written(path: str, kind: str, pool: str) -> None:
    """In a process of its own: what its memory is after a text, as JSON on standard output."""
    torch.set_num_threads(1)
    size = None if pool == "None" else int(float(pool) * 1e6)
    served = serve(Path(path), int8=kind == "int8", pool_bytes=size)
    resident = dict(_status())["RssAnon"]
    prompt, clock = torch.randint(0, 2048, (1, WRITTEN)).tolist(), time.process_time()
    continue_tokens(
        served.model,
        prompt,
        max_tokens=WRITTEN,
        end=-1,
        search=Sampling(1.0),
        decoder=served.decoder,
    )
    seconds = time.process_time() - clock
    status, weights = dict(_status()), served.weights
    found = {
        "experts": kind,
        "pool_mb": len(weights.pool) * weights.seat_bytes / 1e6,
        "seats": len(weights.pool),
        "rss_anon_mb": status["RssAnon"] / 1e3,
        "grown_mb": (status["RssAnon"] - resident) / 1e3,
        "rss_file_mb": status["RssFile"] / 1e3,
        "reads_per_token": weights.misses / WRITTEN / 2,
        "tokens_per_s": 2 * WRITTEN / seconds,
    }
    print(json.dumps(found))


def _status() -> Iterator[tuple[str, int]]:
    """Of this process, in KB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile", "VmHWM"):
            yield name, int(value.split()[0])


def _in_a_fresh_process(path: str, kind: str, pool: float | None) -> dict[str, object]:
    command = [
        sys.executable,
        "-m",
        "experiments.serving.measure",
        "written",
        path,
        kind,
        str(pool),
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def draw(rows: list[dict[str, object]], memory: list[dict[str, object]]) -> None:
    """Loss against FLOPs and bytes of a token, and memory against the pool."""
    from matplotlib.figure import Figure

    from glam.reporting.theme import PRINT, dress

    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    first, second, third = (figure.add_subplot(1, 3, n) for n in (1, 2, 3))
    for axes in (first, second, third):
        dress(axes, PRINT)
    for place, kind in enumerate(TYPES):
        mine = [row for row in rows if row["experts"] == kind]
        loss = [float(str(row["more_loss"])) for row in mine]
        for axes, key, unit in ((first, "flops_per_token", 1e6), (second, "bytes_per_token", 1e6)):
            at = [float(str(row[key])) / unit for row in mine]
            axes.plot(at, loss, "o-", markersize=3, color=PRINT.colour(place), label=kind)
        pools = [row for row in memory if row["experts"] == kind]
        sizes = [float(str(row["pool_mb"])) for row in pools]
        grown = [float(str(row["grown_mb"])) for row in pools]
        third.loglog(sizes, grown, "o-", markersize=3, color=PRINT.colour(place), label=kind)
    first.set_xlabel("MFLOPs a token")
    second.set_xlabel("MB of weights a token")
    third.set_xlabel("MB that experts may take")
    first.set_ylabel("held-out loss, added [nats]")
    third.set_ylabel("RssAnon, added by writing [MB]")
    first.legend(fontsize=7, frameon=False, title="experts in", title_fontsize=7)
    figure.savefig(HERE / "serving.png", dpi=150)
    figure.savefig(HERE / "serving.svg", metadata={"Date": None})


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    written(*sys.argv[2:]) if sys.argv[1] == "written" else main(*sys.argv[1:])
