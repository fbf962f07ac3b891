"""The studies of `python -m experiments.results`, in the order of need.

A study trains one grid, by the line that a user would type, or is a module's that trains several.
Its files are made by modules that a user would run: `from_runs` while the runs lie in the runs
folder, `from_tables` whenever the table is there. In their words stand {table}, {tables} (of what
it needs), {folder} (of the files), {runs_dir}, {runs} (folders of the grid's runs) and {compares}
(what the grid compares).
"""

from experiments.results import like
from experiments.results.study import Script, Study


def figures(*names: str) -> str:
    return f"experiments.redraw {{table}} {' '.join(names)} {{compares}}"


def ablation(name: str, compared: str, loads_by: str = "") -> Study:
    """`loads_by`: the keys by which its page tells load, spikes and skipped steps."""
    loads = "experiments.ablations.stability {table} {keys} runs={runs_dir} to={folder}/loads.csv"
    return Study(
        name=name,
        grid=f"experiment=ablations/{name}/full",
        place=f"ablations/{name}",
        from_runs=(loads.replace("{keys}", loads_by),) if loads_by else (),
        makes=("loads.csv",) if loads_by else (),
        from_tables=(figures(f"difference_by_{compared}"),),
    )


BALANCE = "model.router.balance_loss"
LEADS = ("moe_vs_dense", "expert_scaling", "first_grid", "scaling_law")
# Of the default run, as `make run` trains it.
DEFAULT = "hardware.threads=1 study.name={name} study.compares=model.num_experts study.baseline=1"

EVERY = (
    Study(
        name="learning_rate",
        # A walk needs 3.6 rates on average, and the check has 94 runs.
        script=Script(
            lines=tuple(f"experiments.learning_rate {word}" for word in ("sweep", "fit", "check")),
            like=like.sweep,
            extra=0.75,
            fresh=("results.csv",),
        ),
        from_tables=("experiments.learning_rate fit",),
    ),
    Study(
        name="first_grid",
        grid=f"model.num_experts=1,8,16 seed=0,1,2,3,4 {DEFAULT.format(name='first_grid')}",
        table="five_seeds.csv",
        from_tables=(figures("difference_by_experts", "loss_by_experts"),),
    ),
    Study(
        name="moe_vs_dense",
        grid="experiment=moe_vs_dense/full",
        from_tables=("experiments.moe_vs_dense.compare", figures("difference_by_experts")),
    ),
    Study(
        name="expert_scaling",
        grid="experiment=expert_scaling/full",
        from_tables=(figures("difference_by_experts", "loss_by_experts", "tasks_by_experts"),),
    ),
    Study(
        name="scaling_law",
        grid="experiment=scaling_law/full",
        from_tables=("experiments.scaling_law.refit {table}",),
    ),
    Study(
        name="lead",
        needs=LEADS,
        table="leads.csv",
        from_tables=("experiments.lead {tables}",),
    ),
    Study(
        name="equal_time",
        grid="experiment=equal_time/full",
        from_tables=("experiments.equal_time.compare",),
    ),
    Study(name="energy", needs=("equal_time",), from_tables=("experiments.energy.compare",)),
    Study(
        name="data_filtering",
        grid="experiment=data_filtering/full",
        from_tables=(figures("difference_by_data", "loss_by_data", "tasks_by_data"),),
    ),
    Study(
        name="data_controls",
        grid="experiment=data_controls/full",
        from_tables=(figures("difference_by_data"),),
    ),
    Study(
        name="one_genre",
        grid="experiment=one_genre/full",
        before=("experiments.one_genre.corpus",),
        from_tables=(figures("difference_by_data"),),
    ),
    ablation("balance", "balance_loss", BALANCE),
    ablation("balance_by_experts", "balance_loss", f"model.num_experts {BALANCE}"),
    ablation("priority", "priority", "model.num_experts model.capacity_factor model.priority"),
    ablation("capacity", "capacity_factor", "model.capacity_factor"),
    ablation("moe_every", "moe_every", "model.moe_every"),
    ablation("normalize", "normalize", "model.router.normalize"),
    ablation("optimizer", "optimizer", "optimizer optimizer.learning_rate"),
    ablation("second_expert", "second_policy", "model.router.second_policy"),
    Study(
        name="upcycling",
        script=Script(lines=("experiments.upcycling.study",), like=like.arms),
    ),
    Study(
        name="embedded_tasks",
        grid=f"model.num_experts=1,16 seed=0 {DEFAULT.format(name='embedded_tasks')}",
        measured=True,
        from_runs=("experiments.embedded_tasks.measure {runs}",),
        makes=("demonstrations.csv", "seconds.csv"),
    ),
    Study(
        name="serving",
        grid="model.num_experts=16 seed=0 hardware.threads=1 study.name=serving",
        measured=True,
        from_runs=("experiments.serving.measure {runs}",),
        makes=("memory.csv", "serving.png", "serving.svg", "machine.txt"),
    ),
)
