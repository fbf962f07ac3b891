"""`python -m experiments.tpu_compile.measure`: models of the paper on slices of TPU v4, as the
TPU's own compiler has them, beside what task=plan counts. No TPU is needed, but .venv-xla
(`make xla`).

Each case is a line of run.py in a process of its own, one after another. A row that results.csv
has is kept; with `anew` all are compiled again, with `count` none: it counts anew beside the rows
that are there. Ends with exit status 1 where a program moves an expert weight between chips.
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
    f"{SMALL} {AGAIN} {LOOP}",
    f"{MIDDLE} {AGAIN} {LOOP}",
    f"model=glam_64b64e hardware=tpu_v4_1024 {AGAIN} {LOOP}",
    f"{MIDDLE} {AGAIN} {LOOP} training.batch_size=2048",
    f"{MIDDLE} {AGAIN} {LOOP} training.batch_size=4096",
    f"model=glam_8b64e hardware=tpu_v4_256 {AGAIN} {LOOP}",
]
Row = Mapping[str, str]


def main(anew: bool) -> None:
    rows = {} if anew else read()
    missing = [case for case in CASES if case not in rows]
    for case in track(missing, "compile", len(missing), "programs"):
        rows[case] = compile_once(case)
        write([rows[each] for each in CASES if each in rows])
    draw([rows[each] for each in CASES])
    moved = [case for case, row in rows.items() if row["expert_weights_moved"] not in ("0", "")]
    if moved:
        sys.exit(f"expert weights are moved between chips: {'; '.join(moved)}")


def count_anew() -> None:
    rows = [{**found, "counted_gb": f"{counted(case):.2f}"} for case, found in read().items()]
    write(rows)
    draw(rows)


def counted(case: str) -> float:
    """Gigabytes of one chip, as task=plan has them."""
    line = [sys.executable, "run.py", "task=plan", "task.format=json", *case.split()]
    plan = json.loads(subprocess.check_output(line, cwd=ROOT))
    return plan["bytes_per_device"]["total"] / 1e9


def compile_once(case: str) -> Row:
    """Seconds are the compiler's own; the peak is of the whole process, tracing included."""
    line = [sys.executable, "run.py", "task=plan", "task.compile=true", "task.format=json"]
    with subprocess.Popen([*line, *case.split()], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{case}: exit status {process.returncode}")
    return dict(row(case, json.loads(said), usage.ru_maxrss * 1024))


def row(case: str, plan: Mapping[str, Any], peak_bytes: int) -> Iterator[tuple[str, str]]:
    """As results.csv holds it. Bytes are of one chip, FLOPs and collectives of one step of it."""
    compiled, counted = plan["compiled"], plan["bytes_per_device"]
    yield "case", case
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
    yield "expert_weights_moved", str(compiled["expert_weights_moved"]) if fits else ""
    for name in ("collectives", "gathers"):
        yield name, json.dumps(compiled[name]) if fits else ""
    yield "refusal", compiled["refusal"] or ""


def read() -> dict[str, Row]:
    if not RESULTS.exists():
        return {}
    with RESULTS.open(newline="") as file:
        return {found["case"]: found for found in csv.DictReader(file)}


def write(rows: Sequence[Row]) -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(RESULTS, out.getvalue())


def label(found: Row) -> str:
    """The model, its chips, and how it is trained, in two lines."""
    words = dict(word.split("=") for word in found["case"].split())
    model = words["model"].removeprefix("glam_").replace("b64e", "B/64E").replace("m64e", "M/64E")
    how = [f"batch {int(words.get('training.batch_size', 1024)):,}"]
    how += ["rematerialized"] if AGAIN in found["case"] else []
    how += ["loop"] if LOOP in found["case"] else []
    return f"{model}, {int(found['chips']):,} chips\n{', '.join(how)}"


def draw(rows: Sequence[Row]) -> None:
    from glam.reporting.theme import FONT, PRINT, panel, save

    figure, axes = panel(PRINT, width=7, height=0.62 * len(rows) + 1)
    figure.set_dpi(150)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=PRINT.grid, linewidth=0.8)
    for place, found in enumerate(rows):
        counted, compiled = float(found["counted_gb"]), float(found["compiled_gb"])
        axes.barh(place - 0.2, counted, 0.36, color=PRINT.colour(0))
        held = float(found["argument_gb"] or 0)
        axes.barh(place + 0.2, held, 0.36, color=PRINT.colour(2))
        axes.barh(place + 0.2, compiled - held, 0.36, left=held, color=PRINT.colour(1))
        said = f"{compiled:.1f}" if found["fits"] == "yes" else f"{compiled:.1f}, refused"
        for above, value, text in ((-0.2, counted, f"{counted:.1f}"), (0.2, compiled, said)):
            axes.text(value + 0.3, place + above, text, va="center", size=8, color=PRINT.muted)
    available = float(rows[0]["available_gb"])
    axes.axvline(available, color=PRINT.ink, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [label(found) for found in rows], size=FONT - 2)
    axes.invert_yaxis()
    axes.set_xlabel(f"GB of one chip (line: the {available:.1f} it has)")
    for name, colour in (("counted", 0), ("compiled: arguments", 2), ("temporaries", 1)):
        axes.barh([0], [0], color=PRINT.colour(colour), label=name)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    for name, content in save(figure, "bytes", "tpu_compile").items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [] | ["anew"]:
            main(anew=sys.argv[1:] == ["anew"])
        case ["count"]:
            count_anew()
        case _:
            sys.exit(__doc__)
