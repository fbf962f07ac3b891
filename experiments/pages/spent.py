"""What experts bring and cost: by their number, tokens, seconds and energy (expert_scaling,
moe_vs_dense, equal_time, energy)."""

from experiments.energy import compare as energy_compare
from experiments.equal_time import compare as seconds
from experiments.expert_scaling import trend
from experiments.means import ALL, TRAINED_ON
from experiments.moe_vs_dense import compare
from experiments.pages.differences import groups
from experiments.pages.tables import path, phrase, rows_of
from experiments.pages.words import Claim, Effect, answer, listed, markdown
from experiments.paired import fixed_keys
from glam.analysis.paired import EXPERTS
from glam.machine.energy import WATTS_PER_CORE

SECONDS, ENERGY = "equal_time/results.csv", "energy/results.csv"


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


def equal_seconds() -> Claim:
    """At the longest budget of seconds."""
    runs = seconds.read(path(SECONDS))
    longest, several = seconds.budgets_of(runs)[-1], seconds.sparse(runs)
    effects = {
        f"{experts} experts": Effect.of(seconds.differences(runs, longest, experts, ALL))
        for experts in several
    }
    since = listed(seconds.overtakes(runs, experts, ALL) for experts in several)
    what = (
        f"Mean held-out loss less the dense twin's after {longest:g} s of one core, nats per token"
    )
    return answer(what, effects, after=f"; ahead from {since} on")


def by_seconds() -> str:
    """A row for each mean and number of experts, a column for each budget."""
    runs = seconds.read(path(SECONDS))
    words = (
        "Held-out loss, sparse less dense, nats per token, with the 95 % t interval of "
        f"{len({run.seed for run in runs})} paired seeds, and from when on sparse is ahead "
        "(interval by bootstrap over the seeds):"
    )
    return f"{words}\n\n{seconds.table(runs)}"


def seconds_by_domain() -> str:
    """Of the longest budget."""
    runs = seconds.read(path(SECONDS))
    longest = seconds.budgets_of(runs)[-1]
    names = [name for name in runs[0].losses if name not in (ALL, TRAINED_ON)]
    rows = [
        [
            str(experts),
            *(seconds.cell(seconds.differences(runs, longest, experts, name)) for name in names),
        ]
        for experts in seconds.sparse(runs)
    ]
    return f"The same after {longest:g} s, by domain:\n\n{markdown(['experts', *names], rows)}"


def paces() -> str:
    """What the runs needed."""
    return seconds.pace_table(seconds.read(path(SECONDS)))


def less_energy() -> Claim:
    """Energy to the same loss, sparse over dense."""
    made = energy_compare.summary(energy_compare.read(path(ENERGY)))
    found = {
        f"{experts} experts": Effect(*told, none=1.0)
        for (over, experts), told in made.items()
        if over == ALL
    }
    what = (
        "Energy that sparse models need to the loss that both reach, as a share of the dense twin's"
    )
    return answer(what, found, after=f" (the paper, at better quality: {energy_compare.PAPER:.2f})")


def energies() -> str:
    made = energy_compare.summary(energy_compare.read(path(ENERGY)))
    rows = [
        [
            str(experts),
            *(Effect(*made[over, experts], none=1.0).told() for over in energy_compare.MEANS),
        ]
        for experts in dict.fromkeys(experts for _, experts in made)
    ]
    words = (
        "Energy of the sparse model over the dense twin's: geometric mean over the paired seeds "
        f"and its 95 % t interval. A core counts as {WATTS_PER_CORE:g} W."
    )
    return f"{words}\n\n{markdown(['experts', *energy_compare.MEANS], rows)}"
