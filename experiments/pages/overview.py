"""The tables of docs/results.md and of the README: a row a study, what was found by its claim."""

from pathlib import PurePosixPath
from typing import NamedTuple

from experiments.pages.claims import claim
from experiments.pages.tables import STUDIES, program
from experiments.pages.words import markdown


class Entry(NamedTuple):
    question: str
    command: str
    table: str = ""  # that says which program trained it; none: `results.csv`


CLAIMED = {
    "first_grid": Entry(
        "More experts, lower loss at equal FLOPs",
        "python run.py -m model.num_experts=1,8,16 seed=0,1,2,3,4", "five_seeds.csv",
    ),
    "expert_scaling": Entry("… at every size", "python run.py -m experiment=expert_scaling/full"),
    "moe_vs_dense": Entry(
        "The same loss for fewer tokens", "python run.py -m experiment=moe_vs_dense/full"
    ),
    "equal_time": Entry(
        "Lower loss in equal time", "python -m experiments.equal_time.with_kernels",
        "with_kernels.csv",
    ),
    "energy": Entry("The same loss for less energy", "python -m experiments.energy.compare"),
    "data_filtering": Entry(
        "Filtered text is better", "python run.py -m experiment=data_filtering/full"
    ),
    "one_genre": Entry(
        "… on one genre with half of it spoilt", "python run.py -m experiment=one_genre/quick"
    ),
    "scaling_law": Entry("Loss follows a law", "python -m experiments.scaling_law.refit"),
}  # fmt: skip
