"""What work costs beside other ways to do it: the tables of experiments/benchmarks."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from experiments.pages.tables import path, plain
from experiments.pages.words import Claim, listed, markdown
from glam.units import percent

FLOAT32, BFLOAT16 = "float32", "bfloat16"
LARGE, DEFAULT = "L 4 M 256 E 16", "default"
SHAPES = (
    "T 4096 M 256 E 16", "T 8192 M 256 E 64", "T 4096 M 512 E 8", "T 2048 M 768 E 16",
    "T 2048 M 256 E 64",
)  # fmt: skip
PEERS = ("HF Mixtral", "HF OLMoE", "HF Qwen3-MoE", "torchtitan")
FEW = tuple(f"glam E {experts}" for experts in (8, 16, 32, 64))
PAGE = "experiments/benchmarks.md"  # of the documentation
LAYER = f"{DEFAULT} (T 1024 M 64 H 256)"

Cell = Callable[[str], str]  # by the number's type


def table_of(name: str) -> list[dict[str, str]]:
    return plain(f"benchmarks/{name}.csv")


def measured(name: str, column: str = "ratio", **at: str) -> float | None:
    """The number of the one row whose columns are as `at` says; None where there is none."""
    found = [row for row in table_of(name) if all(row[key] == one for key, one in at.items())]
    if len(found) > 1:
        raise ValueError(f"{name}.csv has {len(found)} rows with {at}")
    return float(found[0][column]) if found and found[0][column] else None


def told(values: Iterable[float | None], join: str = " / ") -> str:
    return join.join(written(value) for value in values if value is not None)


def written(value: float) -> str:
    """With two digits that count, and two decimals from one on."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def ranged(values: Sequence[float]) -> str:
    """`0.73 to 1.05`."""
    return f"{written(min(values))} to {written(max(values))}" if values else ""


def several(name: str, key: str, values: Sequence[str], **at: str) -> Cell:
    """The ratios of some rows, one behind the other."""
    return lambda dtype: told(measured(name, dtype=dtype, **{key: one}, **at) for one in values)


def share(name: str, **at: str) -> Cell:
    def cell(dtype: str) -> str:
        found = measured(name, "share_of_peak", dtype=dtype, **at)
        return "" if found is None else percent(found, 0)

    return cell


def shapes_to_limit(dtype: str) -> str:
    return ranged([ratio for _, ratio in limits(dtype)])


def limits(dtype: str) -> list[tuple[str, float]]:
    """Our layer over its limit, by shape: dense products of as many FLOPs, and at 64 experts the
    products of every expert with as many rows (balanced bmm)."""
    found: list[tuple[str, float]] = []
    for shape in SHAPES:
        ours = measured("layer", shape=shape, dtype=dtype, candidate="glam")
        limit = "limitE" if shape.endswith("E 64") else "limit"
        least = measured("layer", shape=shape, dtype=dtype, candidate=limit)
        if ours is not None and least is not None:
            found.append((shape, ours / least))
    return found


def shapes_to_peers(dtype: str) -> str:
    """Our layer over the fastest other one, over the shapes."""
    found: list[float] = []
    for shape in SHAPES:
        peers = [measured("layer", shape=shape, dtype=dtype, candidate=one) for one in PEERS]
        ours = measured("layer", shape=shape, dtype=dtype, candidate="glam")
        if ours is not None:
            found.append(ours / min(peer for peer in peers if peer is not None))
    return ranged(found)


def attention(dtype: str) -> str:
    rows = [r for r in table_of("attention") if (r["dtype"], r["candidate"]) == (dtype, "glam")]
    return ranged([float(row["ratio"]) for row in rows])


def one_type(dtype: str, values: Callable[[], str]) -> Cell:
    """Of what was measured with one type of number."""
    return lambda asked: values() if asked == dtype else ""


def _optimizer() -> str:
    rows = [row for row in table_of("optimizer") if row["candidate"] == "Adafactor, glam"]
    return told(float(row["ratio"]) for row in reversed(rows))


class Line(NamedTuple):
    what: str
    against: str
    cell: Cell


LINES = (
    Line(
        f"a step, {LARGE}, with a trained position bias", "HF Mixtral without one, same optimizer",
        several("step", "size", [LARGE], candidate="glam"),
    ),
    Line(
        "share of the GEMM peak that step reaches", "",
        share("step", size=LARGE, candidate="glam"),
    ),
    Line(
        "the same step", "torch's operators in place of our kernels",
        several("kernels", "model", [LARGE], candidate="with kernels"),
    ),
    Line(
        "a step at the default size, dense / E 16", "the same",
        several(
            "kernels", "model", ["default, dense", "default, E 16"], candidate="with kernels"
        ),
    ),
    Line(
        "a step at the default size, E 8 / 16 / 32 / 64", "our dense twin",
        several("step", "candidate", FEW, size=DEFAULT),
    ),
    Line(
        "MoE layer at the default size, E 8 / 16 / 32 / 64", "the twin's layer",
        several("layer", "candidate", FEW, shape=LAYER),
    ),
    Line("MoE layer, five shapes", "dense limit (E 64: balanced bmm)", shapes_to_limit),
    Line("the same", "the fastest of HF's three and torchtitan", shapes_to_peers),
    Line("attention with a trained bias, S 128 to 1,024", "SDPA, causal, no bias", attention),
    Line(
        "output and loss, V 32,000 / 256,000", "its three products, in pieces as large",
        several("loss", "vocabulary", ["32000", "256000"], candidate="glam"),
    ),
    Line(
        "two threads, default size", "one, by wall-clock time",
        one_type(BFLOAT16, lambda: told([measured("threads", size=DEFAULT, threads="2")])),
    ),
    Line("Adafactor, 37 M parameters / default size", "fused AdamW", one_type(FLOAT32, _optimizer)),
)  # fmt: skip


def speed_table() -> str:
    rows = [[line.what, line.against, line.cell(FLOAT32), line.cell(BFLOAT16)] for line in LINES]
    return markdown(["what", "against", FLOAT32, BFLOAT16], rows)


def step_cost() -> Claim:
    """Of a step, beside the model that people train."""
    ratios = [several("step", "size", [LARGE], candidate="glam")(d) for d in (FLOAT32, BFLOAT16)]
    return Claim(
        "Less",
        f"A step of {LARGE} takes {ratios[0]} of the time of Hugging Face's Mixtral of equal FLOPs "
        f"in {FLOAT32} and {ratios[1]} in {BFLOAT16}.",
    )


def with_kernels() -> str:
    """Over all sizes and types."""
    rows = [row for row in table_of("kernels") if row["candidate"] == "with kernels"]
    shares = ranged([float(row["ratio"]) for row in rows])
    return f"A step with kernels takes {shares} of its time without them ([benchmarks]({PAGE}))."


def shapes() -> str:
    """The five shapes one by one."""
    both = {dtype: limits(dtype) for dtype in (FLOAT32, BFLOAT16)}
    names = [shape for shape, _ in both[FLOAT32]]
    numbers = [f"{dtype} {listed(written(r) for _, r in both[dtype])}" for dtype in both]
    return f"Of the limit, at {listed(names)}: {'; '.join(numbers)}."


def bench_machine() -> str:
    """Which one the rows are of."""
    lines = path("benchmarks/machine.txt").read_text(encoding="utf-8").splitlines()
    return f"The rows are of: {'; '.join(lines)}."


def writing() -> str:
    """Text written, by batch, beside Hugging Face's generate."""
    batches = ("1", "4", "16", "64")
    made = [
        [model, *(_writing(model, batch) for batch in batches)]
        for model in (DEFAULT, "0.15 B active")
    ]
    return markdown(["model", *(f"batch {one}" for one in batches)], made)


def _writing(model: str, batch: str) -> str:
    at = {"model": model, "batch": batch, "dtype": FLOAT32, "candidate": "glam"}
    return told([measured("generation", **at)])


def writing_alone() -> str:
    """What a token costs beside the loop that computes the last 128 anew, and beside reading the
    weights."""
    lines = []
    for how in ("greedy", "drawn"):
        at = {"model": "default, 512 tokens", "candidate": f"glam, {how}"}
        told_of = [
            f"{measured('generation', 'tokens_per_s', dtype=dtype, **at):,.0f} tokens a second in "
            f"{dtype}, {1 / (measured('generation', dtype=dtype, **at) or 1):.0f} times as many"
            for dtype in (BFLOAT16, FLOAT32)
        ]
        lines.append(
            f"- The default model, 512 tokens, {how}: {told_of[0]} as by computing the last 128 "
            f"tokens anew for each; {told_of[1]}."
        )
    reads = [
        measured("generation", model="0.15 B active, a token", dtype=d, candidate="glam, a token")
        for d in (FLOAT32, BFLOAT16)
    ]
    first, second = (written(one or 0.0) for one in reads)
    lines.append(
        f"- 0.15 B active parameters, a token: {first} of reading its active weights once in "
        f"{FLOAT32}, {second} in {BFLOAT16}."
    )
    return "\n".join(lines)
