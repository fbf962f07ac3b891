"""What experts bring and cost: by their number, tokens, seconds and energy (expert_scaling,
moe_vs_dense, equal_time, energy)."""

import json
import statistics

from experiments.energy import compare as energy_compare
from experiments.equal_time import study
from experiments.expert_scaling import trend
from experiments.moe_vs_dense import compare
from experiments.pages.differences import groups
from experiments.pages.tables import path, phrase, plain, rows_of
from experiments.pages.words import Claim, Effect, answer, listed, markdown
from experiments.paired import fixed_keys
from glam.analysis.paired import EXPERTS
from glam.machine.energy import WATTS_PER_CORE
from glam.units import signed

SECONDS, ENERGY = "equal_time/with_kernels.csv", "energy/results.csv"
MEANS = {"mean": "all domains", "trained on": "domains of the training text"}


def per_doubling(name: str) -> Claim:
    """What a doubling of the experts changes."""
    rows = rows_of(name, EXPERTS, "seed", "id", "loss/mean")
    lines = {line.fixed: line for line in trend.lines_of(rows, path(name))}
    found = {
        ", ".join(
            phrase(key, one) for key, one in zip(fixed_keys(rows, [EXPERTS]), fixed, strict=True)
        ): Effect.of(lines[fixed].slopes("loss/mean"))
        for fixed in groups(rows, fixed_keys(rows, [EXPERTS]))
    }
    what = "Change of the mean held-out loss by a doubling of the experts, nats per token"
    return answer(what, found, digits=4)


def doublings(name: str) -> str:
    """The table of slopes, by domain."""
    words = (
        "What a doubling of the experts brings, nats per token: the slope of a line through each "
        "seed's runs over the doublings, the dense twin counted as one expert, with its 95 % t "
        "interval; and how many steps to more experts lower the mean.\n"
        f"(`python -m experiments.expert_scaling.trend experiments/{name}`)"
    )
    return f"{words}\n\n{trend.table(path(name))}"


def fewer_tokens(name: str) -> Claim:
    """Tokens to the same loss, sparse over dense."""
    try:
        runs = compare.read(path(name))
        found = {
            f"over {mean}": Effect.of_ratios(compare.ratios(runs, mean, 0))
            for mean in runs[0].losses
        }
    except (ValueError, IndexError):
        return Claim("Not told", "The curves of a seed share no loss")
    what = (
        f"Tokens that {compare.SPARSE} experts need to the loss that both reach, as a share of the "
        "dense twin's"
    )
    return answer(what, found)


def spent(name: str) -> str:
    return compare.table(compare.read(path(name)))


def _ahead(experts: int, mean: str = "mean") -> str:
    found = study.read(path(SECONDS))
    budgets = sorted({row.budget for row in found if row.experts == experts})
    return study.overtakes(found, found[0].data, experts, mean, budgets)


def _sparse() -> list[int]:
    return sorted({row.experts for row in study.read(path(SECONDS))} - {1})


def equal_seconds() -> Claim:
    """At the longest budget of seconds."""
    found = study.read(path(SECONDS))
    longest = max(row.budget for row in found)
    effects = {
        f"{experts} experts": Effect.of(
            study.differences(found, found[0].data, longest, experts, "mean")
        )
        for experts in _sparse()
    }
    since = listed(_ahead(experts) for experts in _sparse())
    what = (
        f"Mean held-out loss less the dense twin's after {longest} s of one core on "
        f"{found[0].data} text, nats per token"
    )
    return answer(what, effects, after=f"; ahead from {since} on")


def by_seconds() -> str:
    """A row for each mean and number of experts, a column for each budget."""
    found = study.read(path(SECONDS))
    budgets = sorted({row.budget for row in found})
    rows: list[list[str]] = []
    for mean, title in MEANS.items():
        for experts in _sparse():
            told = [
                _cell(study.differences(found, found[0].data, budget, experts, mean))
                for budget in budgets
            ]
            rows.append([title, str(experts), *told, _ahead(experts, mean)])
    seeds = len({row.seed for row in found})
    words = (
        f"Held-out loss, sparse less dense, nats per token, with the 95 % t interval of {seeds} "
        "paired seeds, and from when on sparse is ahead (interval by bootstrap over the seeds):"
    )
    head = ["mean of", "experts", *(f"{budget} s" for budget in budgets), "ahead from"]
    return f"{words}\n\n{markdown(head, rows)}"


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    effect = Effect.of(values)
    told = f"{signed(effect.middle)} ({signed(effect.low)}, {signed(effect.high)})"
    return f"**{told}**" if effect.verdict() == "yes" else told


def seconds_by_domain() -> str:
    """Of the longest budget."""
    found = study.read(path(SECONDS))
    longest = max(row.budget for row in found)
    rows = [
        [
            str(experts),
            *(
                _cell(study.differences(found, found[0].data, longest, experts, domain))
                for domain in found[0].loss
                if domain not in MEANS
            ),
        ]
        for experts in _sparse()
    ]
    head = ["experts", *(domain for domain in found[0].loss if domain not in MEANS)]
    return f"The same after {longest} s, by domain:\n\n{markdown(head, rows)}"


def paces() -> str:
    """What the calibration measured and which rate the scan chose."""
    speeds = json.loads(path("equal_time/with_kernels.json").read_text())
    told = listed(
        f"{statistics.median(each) / 1000:.1f} thousand with {experts} "
        f"{'expert (dense)' if experts == '1' else 'experts'}"
        for experts, each in speeds.items()
    )
    scan = plain("equal_time/rates.csv")
    best = {
        experts: min(
            {row["rate"] for row in scan},
            key=lambda rate: statistics.mean(
                float(r["trained on"]) for r in scan if (r["rate"], r["experts"]) == (rate, experts)
            ),
        )
        for experts in sorted({row["experts"] for row in scan}, key=int)
    }
    rates = listed(f"{rate} with {experts}" for experts, rate in best.items())
    return (
        f"- Tokens per second, measured in turns: {told}.\n"
        f"- Best learning rate of {len({row['rate'] for row in scan})} by number of experts "
        f"({len({row['seed'] for row in scan})} seeds of their own): {rates}. All runs have that "
        "of 1."
    )


def less_energy() -> Claim:
    """Energy to the same loss, sparse over dense."""
    made = energy_compare.summary(energy_compare.read(path(ENERGY)))
    found = {
        f"{experts} experts": Effect(*told, none=1.0)
        for (_, over, experts), told in made.items()
        if over == "mean"
    }
    what = (
        "Energy that sparse models need to the loss that both reach, as a share of the dense twin's"
    )
    return answer(what, found, after=f" (the paper, at better quality: {energy_compare.PAPER:.2f})")


def energies() -> str:
    made = energy_compare.summary(energy_compare.read(path(ENERGY)))
    rows = [
        [
            runs,
            str(experts),
            *(Effect(*made[runs, over, experts], none=1.0).told() for over in MEANS),
        ]
        for runs, experts in dict.fromkeys((runs, experts) for runs, _, experts in made)
    ]
    words = (
        "Energy of the sparse model over the dense twin's: geometric mean over the paired seeds "
        f"and its 95 % t interval. A core counts as {WATTS_PER_CORE:g} W."
    )
    return f"{words}\n\n{markdown(['data', 'experts', *MEANS.values()], rows)}"
