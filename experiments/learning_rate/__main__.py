"""`python -m experiments.learning_rate WHAT`: the rule of `optimizer.learning_rate=auto`.

cost                        hours of the sweep, by size
sweep [MODEL ...] [TOKENS ...]   train the grids (none: all), and write results.csv as they end
fit                         optima.csv, rule.yaml and the figure, from results.csv
check                       regret.csv and default_run.csv: the rule where it was not fitted
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.learning_rate import fit as fitting
from experiments.learning_rate import sweep as sweeping
from experiments.tables import refuse, write

HERE = Path(__file__).parent
RULE = HERE / "rule.yaml"


def main(arguments: Sequence[str]) -> int:
    match list(arguments):
        case ["cost"]:
            print("\n".join(sweeping.cost()))
        case ["sweep", *words]:
            _sweep(words)
        case ["fit"]:
            _fit()
        case ["check"]:
            _check()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def _sweep(words: Sequence[str]) -> None:
    models = [word for word in words if word in sweeping.MODELS]
    budgets = [int(word) for word in words if word.isdecimal()]
    if wrong := [word for word in words if word not in models and not word.isdecimal()]:
        refuse(f"no {wrong[0]!r}; there are {', '.join(sweeping.MODELS)} and numbers of tokens")
    print("\n".join(sweeping.cost()))
    sweeping.sweep(models or sweeping.MODELS, budgets or sweeping.BUDGETS)


def _fit() -> None:
    from experiments.learning_rate.figure import draw

    if not sweeping.RESULTS.exists():
        refuse(f"there is no {sweeping.RESULTS.name}; python -m experiments.learning_rate sweep")
    found = fitting.optima(sweeping.rows_of(sweeping.RESULTS))
    rows = [{k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in one._asdict().items()}
            for one in found]  # fmt: skip
    write(HERE / "optima.csv", list(rows[0]), rows)
    inside = [one for one in found if not one.at_edge]
    print(f"{len(found) - len(inside)} of {len(found)} optima lie at the end of their scan")
    held = fitting.held_out(found)
    print("| left out | rule | off by a factor | regret, nats |\n| --- | --- | --- | --- |")
    for one in held:
        print(f"| {one.what} | {one.rule} | {one.factor:.2f} | {one.regret:.4f} |")
    exponent = fitting.WIDTH if _better(held) == "width" else None
    rule, around = fitting.fitted(inside, exponent), fitting.intervals(inside, exponent)
    for name, value, (low, high) in zip(rule._fields, rule, around, strict=True):
        print(f"{name} {value:.4g} ({low:.4g} to {high:.4g})")
    RULE.write_text(yaml.safe_dump(_node(rule, inside), sort_keys=False))
    draw(inside, rule, HERE)


def _better(held: Sequence[fitting.Held]) -> str:
    """The rule that costs less on what both have not seen."""
    names = {one.rule for one in held}
    return min(names, key=lambda name: sum(one.regret for one in held if one.rule == name))


def _node(rule: fitting.Rule, found: Sequence[fitting.Optimum]) -> dict[str, Any]:
    """`optimizer.auto`, as conf/optimizer/adamw.yaml has it."""
    sizes, tokens = [one.size for one in found], [one.tokens for one in found]
    return {
        **{name: float(f"{value:.3g}") for name, value in rule._asdict().items()},
        "batch_tokens": 1024,
        "sizes": [int(min(sizes)), int(max(sizes))],
        "tokens": [int(min(tokens)), int(max(tokens))],
        "source": "experiments/learning_rate",
    }


def _check() -> None:
    from glam.config.optimizers.rate_rule import RateRule

    if not RULE.exists():
        refuse("there is no rule.yaml; python -m experiments.learning_rate fit")
    rule = RateRule(**yaml.safe_load(RULE.read_text()))
    from experiments.learning_rate.check import default_run, regrets

    regret, ours = list(regrets(rule)), list(default_run(rule))
    write(HERE / "regret.csv", list(regret[0]), regret)
    write(HERE / "default_run.csv", list(ours[0]), ours)
    for row in (*regret, *ours):
        print(" ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
