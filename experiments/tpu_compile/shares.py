"""`python -m experiments.tpu_compile.shares`: what each of two changes did for a loop of torch_tpu,
and what another partitioner makes of it. A small model on 16 described chips of TPU v4, with
both changes, without one of them, and with Shardy in the place of GSPMD; needs `make tpu` and no
TPU. Each is compiled in a process of its own, and what it says is a row of shares.csv; a row that
is there is kept.
"""

import csv
import io
import json
import multiprocessing
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, fx

from experiments.tpu_compile.measure import AGAIN, LOOP, SIXTEEN, SLICES
from glam.composition.overrides import CONF
from glam.composition.schema import register, to_run_config
from glam.config import RunConfig
from glam.errors import first_line
from glam.machine.environments import check_torch_tpu
from glam.planning import torch_tpu, tpu_compile
from glam.progress import track
from glam.runs.folder import write_atomically

RESULTS = Path(__file__).parent / "shares.csv"
LINE = [*SIXTEEN.split(), "hardware=tpu_v4_64", f"hardware.topology={SLICES['tpu_v4_64']}"]
LINE += [AGAIN, LOOP, "model.num_layers=8", "task=plan"]
COLUMNS = ["variant", "argument_mb", "temporary_mb", "flops", "gathered_mb", "collectives"]
COLUMNS += ["compile_cpu_seconds", "said"]
Lowering = torch_tpu._Lowering


def product_by_torch(self: Any, equation: str, a: Tensor, b: Tensor) -> Tensor:
    """torch's own einsum, which merges axes before its product of matrices."""
    return torch.einsum(equation, a, b)


def turned_loop(once: Callable[..., Any]) -> Callable[..., Any]:
    """A loop in reverse as one that goes ahead over what was turned round."""

    def loop(
        self: Any, body: fx.GraphModule, carry: list[Tensor], xs: list[Tensor], *, reverse: bool
    ) -> Any:
        turned = [x.flip(0) for x in xs] if reverse else xs
        found = list(once(self, body, carry, turned, reverse=False))
        ahead = len(carry)
        return found[:ahead] + [each.flip(0) if reverse else each for each in found[ahead:]]

    return loop


def without_product() -> None:
    Lowering._product = product_by_torch


def without_reverse() -> None:
    Lowering._loop = turned_loop(Lowering._loop)


def with_shardy() -> None:
    tpu_compile.compiled_for = partial(tpu_compile.compiled_for, shardy=True)


VARIANTS: dict[str, tuple[Callable[[], None], ...]] = {
    "both": (),
    "products split by torch": (without_product,),
    "stacks turned round": (without_reverse,),
    "both, Shardy": (with_shardy,),
}


def composed() -> RunConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_run_config(compose("config", LINE))


def row(variant: str) -> dict[str, str]:
    """What the compiler says of a variant."""
    check_torch_tpu("the experiment")
    for change in VARIANTS[variant]:
        change()
    try:
        found = tpu_compile.compiled(composed(), "torch_tpu")
    except Exception as error:
        return {"variant": variant, "said": first_line(error)}
    return {
        "variant": variant,
        "argument_mb": f"{found['argument_bytes'] / 1e6:.1f}",
        "temporary_mb": f"{found['temporary_bytes'] / 1e6:.1f}",
        "flops": f"{found['flops']:.4g}",
        "gathered_mb": f"{found['collectives'].get('all-gather', {'bytes': 0})['bytes'] / 1e6:.0f}",
        "collectives": json.dumps(found["collectives"]),
        "compile_cpu_seconds": f"{found['cpu_seconds']:.0f}",
        "said": found["unread"] or "",
    }


def main() -> None:
    rows = list[dict[str, str]]()
    if RESULTS.exists():
        with RESULTS.open(newline="") as file:
            rows += csv.DictReader(file)
    missing = [
        variant for variant in VARIANTS if variant not in [found["variant"] for found in rows]
    ]
    context = multiprocessing.get_context("spawn")
    for variant in track(missing, "compile", len(missing), "programs"):
        with context.Pool(1) as pool:
            rows.append(pool.apply(row, (variant,)))
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(RESULTS, out.getvalue())


if __name__ == "__main__":
    sys.exit(main())
