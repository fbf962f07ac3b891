"""How good the tools are: the last table of docs/results.md."""

from collections.abc import Callable
from typing import NamedTuple

from experiments.pages.compiled import fits_a_tpu
from experiments.pages.copied_text import copies_found
from experiments.pages.exactness import same_within_noise
from experiments.pages.growths import grows_as_counted
from experiments.pages.overlap import overlap_found
from experiments.pages.peers import beside_peers
from experiments.pages.predictions import MEMORY, THROUGHPUT, paper_numbers, predicted
from experiments.pages.speeds import step_cost
from experiments.pages.tables import plain
from experiments.pages.words import Claim, markdown
from glam.units import counted

NOT_RUN = Claim("Not run", "Nobody has; `{command}` is for who has one.")
INDEPENDENT, KERNELS = "independent of it", "with kernels"


def no_false_alarm() -> Claim:
    """Of sound runs, how many went back for a spike that was none."""
    rows = plain("reliability/false_alarms.csv")
    alarms = sum(int(row["alarms"]) for row in rows)
    closest = max(float(row["closest"]) for row in rows)
    return Claim(
        "No" if alarms == 0 else "Yes",
        f"{counted(alarms, 'alarm')} in {counted(len(rows), 'run')} over "
        f"{len({row['size'] for row in rows})} sizes and "
        f"{len({row['learning_rate'] for row in rows})} learning rates; the closest loss rose by "
        f"{closest:.2f} of a spike.",
    )


def killed_and_exact() -> Claim:
    """Of bursts of kills, how many left what an undisturbed run leaves."""
    rows = plain("reliability/chaos.csv")
    exact = sum(row["exact"] == "yes" for row in rows)
    kills = sum(int(row["kills"]) for row in rows)
    set_ups = counted(len({row["set_up"] for row in rows}), "set-up")
    return Claim(
        "Yes" if exact == len(rows) else "No",
        f"{exact} of {len(rows)} bursts ({counted(kills, 'kill')}, {set_ups}) ended to the last "
        "bit as an undisturbed run.",
    )


def memory_of_preparation() -> Claim:
    """The largest process, from the least to the most text."""
    rows = plain("preparation/sizes.csv")
    text = sorted(float(row["text_mb"]) for row in rows)
    most = max(float(row["largest_mb"]) for row in rows)
    return Claim(
        "Constant memory",
        f"From {text[0]:,.0f} to {text[-1]:,.0f} MB of text no process takes more than "
        f"{most:,.0f} MB.",
    )


class Tool(NamedTuple):
    question: str
    page: str
    program: str
    command: str
    found: Callable[[], Claim]


TOOLS = (
    Tool(
        "Are the paper's numbers those of its shapes?", "paper_numbers", INDEPENDENT,
        "python -m experiments.paper_numbers.compare", paper_numbers,
    ),
    Tool("What does a step cost?", "benchmarks", KERNELS, "make bench", step_cost),
    Tool(
        "Does cost grow as theory says?", "growth", KERNELS,
        "python -m experiments.growth sizes", grows_as_counted,
    ),
    Tool(
        "Do all kernels train to the same loss?", "digits", KERNELS,
        "python -m experiments.digits runs", same_within_noise,
    ),
    Tool("Is glam the fastest at the same work?", "peers", KERNELS, "make peers", beside_peers),
    Tool(
        "Is memory predicted?", "memory", KERNELS, "python -m experiments.memory.measure",
        lambda: predicted(MEMORY),
    ),
    Tool(
        "Is time predicted?", "throughput", "before kernels",
        "python -m experiments.throughput.measure", lambda: predicted(THROUGHPUT),
    ),
    Tool(
        "Does a sound run go back?", "reliability", KERNELS,
        "python -m experiments.reliability.false_alarms", no_false_alarm,
    ),
    Tool(
        "Does a killed run end as if nothing had been?", "reliability", KERNELS, "make chaos",
        killed_and_exact,
    ),
    Tool(
        "Does it fit a TPU?", "tpu_compile", INDEPENDENT,
        "python -m experiments.tpu_compile.measure", fits_a_tpu,
    ),
    Tool("And on a TPU?", "tpu_first_hour", "a TPU", "make bench-tpu", lambda: NOT_RUN),
    Tool("And on a GPU?", "gpu_first_hour", "a GPU", "make bench-gpu", lambda: NOT_RUN),
    Tool(
        "Are copies found?", "deduplication", INDEPENDENT,
        "python -m experiments.deduplication.planted", copies_found,
    ),
    Tool(
        "Is every overlap with what is evaluated on found?", "contamination", INDEPENDENT,
        "python -m experiments.contamination", overlap_found,
    ),
    Tool(
        "What does preparing text take?", "preparation", INDEPENDENT,
        "python -m experiments.preparation", memory_of_preparation,
    ),
)  # fmt: skip


def tools() -> str:
    rows = [
        [
            f"[{one.question}](experiments/{one.page}.md)",
            str(one.found()).format(command=one.command),
            one.program,
            f"`{one.command}`",
        ]
        for one in TOOLS
    ]
    return f"{{.stacked .claims}}\n{markdown(['question', 'found', 'program', 'command'], rows)}"
