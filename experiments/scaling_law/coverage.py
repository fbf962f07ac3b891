"""`python -m experiments.scaling_law.coverage [simulations=200] [samples=400] [FORM …]`: how often
intervals of a nominal 90 % hold what they are intervals of.

Each simulated law is one bootstrap draw of a form fitted to `results.csv`, and gives its losses to
the grid of `experiment=scaling_law/full`, with the noise that is found in `results.csv`: of runs,
which differ by their seeds, and of whole cells, which lie off the law. The form is fitted to what
the experiment keeps, and asked for its constants and the cells held out. Writes coverage.csv, one
row for each constant that is fitted in all simulations and one for all held-out cells together, and
prints the shares in Markdown.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.scaling_law.grid import planned
from experiments.scaling_law.tables import known
from experiments.tables import refuse, write
from glam.analysis.forecast import HeldOut, Split, predict_cells, split_of
from glam.analysis.law_forms import FORMS, NAMES
from glam.analysis.scaling_law import CONFIDENCE, Law, Runs, cells, fit, interval

HERE = Path(__file__).parent
TOLD = ("alpha", "beta", "gamma", "c", "log_p", "omega", "zeta")  # the rest are of the units chosen
COLUMNS = ("form", "what", "nominal", "coverage", "error", "median_width", "simulations")


class Noise(NamedTuple):
    """Standard deviations of the log loss."""

    run: float
    cell: float


class Held(NamedTuple):
    """Of one simulation: by constant, whether its interval holds the truth (None where the grid
    did not determine it), its width, and the cells held out."""

    constants: dict[str, bool | None]
    widths: dict[str, float]
    cells: list[HeldOut]


def noise_of(laws: Sequence[Law], runs: Runs) -> Noise:
    """By the form that leaves least: what it leaves of a cell, less what its runs differ by."""
    each = len(runs.loss) / len(np.unique(cells(runs)))
    law = min(laws, key=lambda one: one.noise)
    left = (law.noise**2 - law.run_noise**2) / each
    return Noise(run=law.run_noise, cell=float(np.sqrt(max(left, 0.0))))


def simulated(truth: Law, grid: Runs, noise: Noise, random: np.random.Generator) -> Runs:
    """The runs of `grid` with losses of one law, that of `truth.draws[0]`."""
    _, exact = truth.predict(grid.active, grid.experts, grid.tokens)
    index = cells(grid)
    of_cell = random.normal(0, noise.cell, int(index.max()) + 1)[index]
    log_loss = np.log(exact[0]) + of_cell + random.normal(0, noise.run, len(index))
    return dataclasses.replace(grid, loss=np.exp(log_loss))


def one(truth: Law, runs: Runs, split: Split, samples: int, seed: int) -> Held:
    """A fit to what is kept, against the law and the cells that are not."""
    law = fit(runs.where(split.kept), truth.form, samples=samples, seed=seed)
    low, high = interval(law.draws)
    held: dict[str, bool | None] = {}
    for name in TOLD:
        i = NAMES.index(name)
        inside = bool(low[i] <= truth.draws[0, i] <= high[i])
        held[name] = inside if law.free[i] else None
    widths = {name: float((high - low)[NAMES.index(name)]) for name in TOLD}
    return Held(held, widths, predict_cells(law, runs.where(~split.kept)))


def simulations(truth: Law, count: int, samples: int, noise: Noise) -> Iterator[Held]:
    grid, random = planned(), np.random.default_rng(7)
    split = split_of(grid)
    for i in range(count):
        mine = dataclasses.replace(truth, draws=truth.draws[i % len(truth.draws)][None])
        # The centre of the grid is not that of the table: constants are of where they were fitted.
        runs = simulated(mine, grid, noise, random)
        yield one(moved(mine, runs.where(split.kept)), runs, split, samples, i)


def moved(law: Law, runs: Runs) -> Law:
    """The same law by the constants that it has at the centre of `runs`."""
    centre = (float(np.exp(np.log(runs.active).mean())), float(np.exp(np.log(runs.tokens).mean())))
    size, data = (float(np.log(new / old)) for new, old in zip(centre, law.centre, strict=True))
    draws: NDArray[np.float64] = law.draws.copy()
    at = {name: draws[:, i] for i, name in enumerate(NAMES)}
    at["log_a"] -= at["alpha"] * size
    at["log_b"] -= at["beta"] * data
    at["gamma"] += at["c"] * (size - data if FORMS[law.form].per_parameter else size)
    at["omega"] += at["zeta"] * data
    return dataclasses.replace(law, draws=draws, centre=centre)


def rows(form: str, found: Sequence[Held]) -> Iterator[dict[str, str]]:
    for name in TOLD:
        held = [one.constants[name] for one in found]
        if None not in held:
            # Errors are of laws: cells of one law are not independent.
            yield _row(form, name, [float(bool(h)) for h in held], [o.widths[name] for o in found])
    inside = [float(np.mean([cell.is_inside for cell in one.cells])) for one in found]
    width = [float(np.log(c.interval[1] / c.interval[0])) for one in found for c in one.cells]
    yield _row(form, "held-out cells", inside, width)


def _row(form: str, what: str, inside: list[float], width: list[float]) -> dict[str, str]:
    error = float(np.std(inside, ddof=1) / np.sqrt(len(inside))) if len(inside) > 1 else 0.0
    numbers = (CONFIDENCE, float(np.mean(inside)), error, float(np.median(width)))
    return dict(
        zip(COLUMNS, (form, what, *(f"{n:.4g}" for n in numbers), str(len(inside))), strict=True)
    )


def main(arguments: Sequence[str]) -> int:
    values = dict(word.split("=", 1) for word in arguments if "=" in word)
    chosen = [word for word in arguments if "=" not in word] or list(FORMS)
    if wrong := [word for word in chosen if word not in FORMS]:
        refuse(f"no form {wrong[0]!r}; there are {', '.join(FORMS)}")
    if not set(values) <= {"simulations", "samples"} or not all(
        v.isdigit() for v in values.values()
    ):
        refuse("the options are simulations=<count> and samples=<count>")
    table = known()
    laws = {form: fit(table, form) for form in FORMS}
    noise = noise_of(list(laws.values()), table)
    print(f"noise of the log loss: runs {noise.run:.5f}, cells {noise.cell:.5f}")
    count, samples = int(values.get("simulations", "200")), int(values.get("samples", "400"))
    told: list[dict[str, str]] = []
    for form in chosen:
        told += rows(form, list(simulations(laws[form], count, samples, noise)))
        write(HERE / "coverage.csv", COLUMNS, told)
    print("\n".join(markdown(told)))
    return 0


def markdown(told: Sequence[dict[str, str]]) -> Iterator[str]:
    """A row a form; a dash is a constant that it has not, or that some grids do not determine."""
    columns = (*TOLD, "held-out cells")
    yield f"| form | {' | '.join(columns)} |"
    yield "| --- " * (1 + len(columns)) + "|"
    for form in dict.fromkeys(row["form"] for row in told):
        share = {row["what"]: float(row["coverage"]) for row in told if row["form"] == form}
        cells = [f"{share[name]:.2f}" if name in share else "–" for name in columns]
        yield f"| `{form}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
