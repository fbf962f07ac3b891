"""`python -m experiments.tpu_compile.measure [torch_tpu] [torch_xla] [model=...] [hardware=...]`:
models of the paper on slices of TPU v4, and one small model on a slice of each generation, as the
TPU's own compiler has them, beside what task=plan counts. The programs are made by torch_tpu
(`make tpu`) and by torch_xla (`make xla`), both unless one is named. No TPU is needed.

Each case is a line of run.py in a process of its own, one after another; overrides that are given
leave the cases that have them all. A row that results.csv has is kept; with `anew` all are compiled
again, with `count` none: it counts anew beside the rows that are there. Ends with exit status 1
where a program moves an expert weight between chips, or where the two programs of a case differ by
more than `BOUNDS`.
"""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glam.config import ROOT
from glam.progress import track
from glam.runs.folder import write_atomically

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.csv"
AGAIN, LOOP = "training.rematerialize=true", "hardware.scan=true"
SMALL = "model=glam_100m64e hardware=tpu_v4_8 training.batch_size=128"
MIDDLE = "model=glam_1b64e hardware=tpu_v4_64"
CASES = [
    "model=glam_100m64e hardware=tpu_v4_8 model.num_layers=4 training.batch_size=32",
    f"{SMALL} {AGAIN} {LOOP}",
    f"{MIDDLE} {AGAIN} {LOOP}",
    f"model=glam_64b64e hardware=tpu_v4_1024 {AGAIN} {LOOP}",
    f"{MIDDLE} {AGAIN} {LOOP} training.batch_size=2048",
    f"{MIDDLE} {AGAIN} {LOOP} training.batch_size=4096",
    f"model=glam_8b64e hardware=tpu_v4_256 {AGAIN} {LOOP}",
]
# 16 chips of each generation, 8 by 2.
SIXTEEN = (
    "model=glam_100m64e model.num_layers=4 model.num_experts=16 training.batch_size=32 "
    "training.sequence_length=512 hardware.mesh={expert:8,model:2}"
)
SLICES = {
    "tpu_v4_64": "v4:2x2x4",
    "tpu_v5e_16": "v5e:4x4",
    "tpu_v5p_64": "v5p:2x2x4",
    "tpu_v6e_64": "v6e:4x4",
}
GENERATIONS = [
    f"{SIXTEEN} hardware={name} hardware.topology={topology}" for name, topology in SLICES.items()
]
ROUTES = ("torch_tpu", "torch_xla")
# torch_xla's libtpu is of before v6e.
WANTED = [(case, route) for case in CASES for route in ROUTES]
WANTED += [(case, "torch_tpu") for case in GENERATIONS]
# Largest difference of torch_tpu's program from torch_xla's, as a share of that.
BOUNDS = {"argument_gb": 0.01, "ratio": 0.06}
Row = Mapping[str, str]
Key = tuple[str, str]  # a case and a route


def main(routes: Sequence[str], overrides: Sequence[str], *, anew: bool) -> None:
    rows = read()
    wanted = [key for key in WANTED if key[1] in routes and set(overrides) <= {*key[0].split()}]
    missing = [key for key in wanted if anew or key not in rows]
    for key in track(missing, "compile", len(missing), "programs"):
        rows[key] = compile_once(*key)
        write(rows)
    draw(rows)
    moved = [
        case for (case, _), row in rows.items() if row["expert_weights_moved"] not in ("0", "")
    ]
    if moved:
        sys.exit(f"expert weights are moved between chips: {'; '.join(moved)}")
    if apart := list(differing(rows)):
        sys.exit(f"the programs of two libraries differ: {'; '.join(apart)}")


def differing(rows: Mapping[Key, Row]) -> Iterator[str]:
    """Where the two programs of a case are further apart than they may be."""
    for case in CASES:
        pair = [rows.get((case, route)) for route in ROUTES]
        for name, bound in BOUNDS.items():
            figures = [float(row[name]) for row in pair if row is not None and row[name]]
            if len(figures) == 2 and abs(figures[0] / figures[1] - 1) > bound:
                yield f"{name} of {case}: {figures[0]:g} and {figures[1]:g}"


def count_anew() -> None:
    rows = {key: {**found, "counted_gb": f"{counted(key[0]):.2f}"} for key, found in read().items()}
    write(rows)
    draw(rows)


def counted(case: str) -> float:
    """Gigabytes of one chip, as task=plan has them."""
    line = [sys.executable, "run.py", "task=plan", "task.format=json", *case.split()]
    plan = json.loads(subprocess.check_output(line, cwd=ROOT))
    return plan["bytes_per_device"]["total"] / 1e9


def compile_once(case: str, route: str) -> Row:
    """Seconds are the compiler's own; the peak is of the whole process, tracing included."""
    line = [sys.executable, "run.py", "task=plan", "task.compile=true", "task.format=json"]
    line += [f"task.compile_with={route}", *case.split()]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{case} by {route}: exit status {process.returncode}")
    return dict(row(case, json.loads(said), usage.ru_maxrss * 1024))


def row(case: str, plan: Mapping[str, Any], peak_bytes: int) -> Iterator[tuple[str, str]]:
    """As results.csv holds it. Bytes are of one chip, FLOPs and collectives of one step of it."""
    compiled, counted = plan["compiled"], plan["bytes_per_device"]
    yield "case", case
    yield "route", compiled["route"]
    yield "libtpu", compiled["versions"]["libtpu"]
    yield "chips", str(plan["devices"])
    yield "fits", "yes" if compiled["fits"] else "no"
    yield "compile_seconds", f"{compiled['seconds']:.0f}"
    yield "compile_cpu_seconds", f"{compiled['cpu_seconds']:.0f}"
    yield "peak_rss_gb", f"{peak_bytes / 1e9:.2f}"
    yield "counted_gb", f"{counted['total'] / 1e9:.2f}"
    yield "compiled_gb", f"{compiled['total_bytes'] / 1e9:.2f}"
    yield "available_gb", f"{counted['available'] / 1e9:.2f}"
    fits = compiled["fits"]
    for name in ("argument", "temporary"):
        yield f"{name}_gb", f"{compiled[f'{name}_bytes'] / 1e9:.2f}" if fits else ""
    for name in ("flops", "flops_by_hand"):
        yield name, f"{compiled[name]:.4g}" if fits else ""
    comparable = fits and compiled["flops_comparable"]
    yield "ratio", f"{compiled['flops'] / compiled['flops_by_hand']:.3f}" if comparable else ""
    known = fits and compiled["unread"] is None
    yield "expert_weights_moved", str(compiled["expert_weights_moved"]) if known else ""
    for name in ("collectives", "gathers"):
        yield name, json.dumps(compiled[name]) if known else ""
    yield "refusal", compiled["refusal"] or ""


def read() -> dict[Key, Row]:
    if not RESULTS.exists():
        return {}
    with RESULTS.open(newline="") as file:
        return {(found["case"], found["route"]): found for found in csv.DictReader(file)}


def write(rows: Mapping[Key, Row]) -> None:
    """In the order of the cases."""
    found = [rows[key] for key in WANTED if key in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    write_atomically(RESULTS, out.getvalue())


def label(found: Row) -> str:
    """The model, its chips, and how it is trained, in two lines."""
    words = dict(word.split("=") for word in found["case"].split())
    model = words["model"].removeprefix("glam_").replace("b64e", "B/64E").replace("m64e", "M/64E")
    how = [f"{n} layers" for n in [words.get("model.num_layers")] if n]
    how += [f"batch {int(words.get('training.batch_size', 1024)):,}"]
    how += ["rematerialized"] if AGAIN in found["case"] else []
    how += ["loop"] if LOOP in found["case"] else []
    return f"{model}, {int(found['chips']):,} chips\n{', '.join(how)}"


def draw(rows: Mapping[Key, Row]) -> None:
    """A group of bars a case: counted, and as each library's program was compiled."""
    from glam.reporting.theme import FONT, PRINT, panel, save

    cases = [case for case in CASES if any((case, route) in rows for route in ROUTES)]
    figure, axes = panel(PRINT, width=7, height=0.8 * len(cases) + 1)
    figure.set_dpi(150)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=PRINT.grid, linewidth=0.8)
    labels = list[str]()
    for place, case in enumerate(cases):
        found = [(2 + n, rows[case, r]) for n, r in enumerate(ROUTES) if (case, r) in rows]
        labels.append(label(found[0][1]))
        bars = [(0, float(found[0][1]["counted_gb"]), True)]
        bars += [(n, float(row["compiled_gb"]), row["fits"] == "yes") for n, row in found]
        for above, (colour, value, fits) in zip((-0.28, 0, 0.28), bars, strict=False):
            axes.barh(place + above, value, 0.25, color=PRINT.colour(colour))
            said = f"{value:.1f}" if fits else f"{value:.1f}, refused"
            axes.text(value + 0.3, place + above, said, va="center", size=8, color=PRINT.muted)
    available = float(next(iter(rows.values()))["available_gb"])
    axes.axvline(available, color=PRINT.ink, linewidth=0.8)
    axes.set_yticks(range(len(cases)), labels, size=FONT - 2)
    axes.invert_yaxis()
    axes.set_xlabel(f"GB of one chip (line: the {available:.1f} it has)")
    for name, colour in (("counted", 0), ("torch_tpu", 2), ("torch_xla", 3)):
        axes.barh([0], [0], color=PRINT.colour(colour), label=name)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    for name, content in save(figure, "bytes", "tpu_compile").items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    given = sys.argv[1:]
    if given == ["count"]:
        count_anew()
        sys.exit()
    overrides = [word for word in given if "=" in word]
    if not {*given} <= {"anew", *ROUTES, *overrides}:
        sys.exit(__doc__)
    named = [route for route in ROUTES if route in given]
    main(named or ROUTES, overrides, anew="anew" in given)
