"""The studies of the paper: every file is a grid of valid runs that keeps what it promises."""

from collections.abc import Sequence
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from glam.composition import overrides
from glam.composition.compose import Composer
from glam.composition.overrides import CONF, check_line, choices
from glam.composition.schema import register
from glam.errors import UserError
from glam.studies.check import checked_cells
from glam.studies.grid import run_grid
from glam.studies.study import Cell, TrainingCell
from glam.tasks.plan import show_plans
from hydra_plugins.glam_grid import sweeper

EXPERIMENTS = choices("experiment")
# What a run of one thread makes beside another, by the width of the model
# (experiments/learning_rate/results.csv); and what it takes to start a run and to evaluate it.
TOKENS_PER_SECOND = {16: 20_000, 32: 50_000, 64: 40_000, 128: 18_000}
SECONDS_AROUND = 15
CORES = 2
NO_LAUNCHER: Any = None  # a plan starts nothing


def grid_of(name: str, *typed: str) -> tuple[list[Cell], list[str]]:
    """Its cells, and the keys that they sweep."""
    register()
    arguments = [f"experiment={name}", *typed]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        loader = hydra.config_loader
        master = loader.load_configuration("config", arguments[:1], RunMode.MULTIRUN)
        lines, swept = sweeper.expand(dict(master.hydra.sweeper.params), arguments, loader)
        return sweeper.cells_of(Composer(loader, master), lines, swept), swept


def cells_of(name: str, *typed: str) -> list[TrainingCell]:
    return checked_cells(grid_of(name, *typed)[0])


def seconds(cells: Sequence[TrainingCell]) -> float:
    training = sum(
        cell.config.training.seconds
        or cell.config.training.tokens / TOKENS_PER_SECOND[cell.config.model.d_model]
        for cell in cells
    )
    return (training + SECONDS_AROUND * len(cells)) / CORES


@pytest.fixture
def genre(tmp_path, monkeypatch):
    """Where the text of one_genre is looked for."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cache" / "one_genre"
    folder.mkdir(parents=True)
    pool, exams = ("reviews", "clean", "spoilt"), ("wikipedia", "speeches", "scripture", "tweets")
    for name in (*pool, *exams):
        (folder / f"{name}.jsonl").write_text('{"text": "word"}\n')
    return folder


@pytest.mark.usefixtures("genre")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_a_grid_of_different_valid_runs_that_takes_the_time_it_says(name):
    cells = cells_of(name)
    first = cells[0].config.study
    assert len({cell.run.id for cell in cells}) == len(cells) >= 6
    assert first.name == name.replace("ablations/", "ablation_").replace("/", "_")
    assert first.compares in cells[0].values
    assert seconds(cells) < (600 if name.endswith("/quick") else 2.5 * 3600)


def test_a_study_has_a_short_and_a_long_form():
    folders = {name.rpartition("/")[0] for name in EXPERIMENTS}
    assert {f"{folder}/{form}" for folder in folders for form in ("quick", "full")} == {
        *EXPERIMENTS
    }


def test_what_is_typed_takes_the_place_of_what_the_experiment_sweeps():
    cells = cells_of("expert_scaling/quick", "seed=7,8", "model.num_experts=1,2")
    assert sorted((c.values["seed"], c.values["model.num_experts"]) for c in cells) == [
        *((7, 1), (7, 2), (8, 1), (8, 2)),
    ]
    assert {cell.config.seed for cell in cells} == {7, 8}


def test_a_key_with_a_plus_takes_the_place_of_the_same_key():
    cells = cells_of("expert_scaling/quick", "seed=0", "+model.num_experts=1,2")
    assert [cell.values["model.num_experts"] for cell in cells] == [1, 2]


def test_a_key_narrowed_to_one_value_still_tells_its_cells_from_the_others():
    cells = cells_of("data_filtering/quick", "model.num_experts=16", "seed=0")
    assert [cell.values["model.num_experts"] for cell in cells] == [16, 16]


def test_the_long_studies_train_once_what_they_share():
    filtering = {cell.run.id for cell in cells_of("data_filtering/full")}
    tokens = {cell.run.id for cell in cells_of("moe_vs_dense/full")}
    assert len(filtering & tokens) == 10  # filtered, 1 and 16 experts on 4 M tokens, five seeds


def test_two_studies_share_the_runs_that_they_have_in_common():
    scaling = {cell.run.id for cell in cells_of("expert_scaling/quick")}
    tokens = "training.tokens=500000"
    filtering = {cell.run.id for cell in cells_of("data_filtering/quick", tokens)}
    assert len(scaling & filtering) == 8  # filtered, 1 and 16 experts, four seeds


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["training.tokens=1000,2000", "study.compares=training.tokens", "study.baseline=1000"],
         "study.budget=flops but"),
        (["model.top_k=2,4", "study.compares=model.top_k", "study.baseline=2",
          "model.num_experts=8"], "study.budget=flops but"),
        (["model.num_experts=4,8"], "study.baseline=1 is no value of model.num_experts"),
        (["study.compares=model.top_k"], "study.compares=model.top_k is not swept here"),
        (["study.compares=model.num_expert"], "did you mean model.num_experts"),
        (["study.compares=seed"], "seeds are what the intervals are over"),
        (["training.seconds=9"], "study.budget=flops but training.seconds=9 gives each"),
        (["study.budget=seconds"], "study.budget=seconds but training.seconds is not set"),
        (["study.budget=hours"], "study.budget='hours' is not known"),
        (["study.compares=null"], "study.baseline=1 is a value of no key"),
    ],
)  # fmt: skip
def test_a_study_that_does_not_keep_its_promise_is_refused(typed, words):
    with pytest.raises(UserError, match=words):
        cells_of("expert_scaling/quick", "seed=0", *typed)
    with pytest.raises(UserError, match=words):
        run_grid(
            *grid_of("expert_scaling/quick", "seed=0", "task=plan", *typed),
            NO_LAUNCHER,
            show_plans=show_plans,
        )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["experiment=expert_scaling/quick"], "is a grid of runs; put -m before it"),
        (["study.budget=seconds"], "is about the runs of a grid; put -m before it"),
        (["-m", "experiment=expert_scalin/quick"], "did you mean expert_scaling/quick"),
        (["-m", "experiment=nothing"], "choose from ablations/balance/full, ablations"),
        (["-m", "experiment=expert_scaling/quick,expert_scaling/full"], "one experiment at a time"),
    ],
)
def test_a_line_with_an_experiment_that_cannot_run_is_refused(line, words):
    with pytest.raises(UserError, match=words):
        check_line(line)


def test_an_experiment_that_sweeps_nothing_is_a_run(tmp_path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    monkeypatch.setattr(overrides, "CONF", tmp_path)
    files = {
        "mine": "training: {tokens: 1000}",
        "grid": "hydra: {sweeper: {params: {seed: '0,1'}}}",
        "longer": "defaults: [/experiment/grid, _self_]",
        "based": "defaults: [/experiment/mine, _self_]",
    }
    for name, content in files.items():
        (tmp_path / "experiment" / f"{name}.yaml").write_text(content)
    for name in ("mine", "based"):
        check_line([f"experiment={name}"])
    for name in ("grid", "longer"):
        with pytest.raises(UserError, match="is a grid of runs; put -m before it"):
            check_line([f"experiment={name}"])


def test_a_cell_of_an_experiment_and_a_look_at_it_need_no_grid():
    check_line(["experiment=expert_scaling/quick", 'study.cell="seed=0"'])
    check_line(["experiment=expert_scaling/quick", "--cfg", "job"])
    check_line(["experiment=null"])


@pytest.mark.parametrize("form", ["quick", "full"])
def test_a_scaling_law_has_the_sizes_and_the_tokens_that_its_fit_needs(form):
    configs = [cell.config for cell in cells_of(f"scaling_law/{form}")]
    assert len({config.model.d_model for config in configs}) >= 3
    assert len({config.training.tokens for config in configs}) >= 3
    assert min(config.model.num_experts for config in configs) == 1


def test_an_experiment_whose_text_is_not_written_yet_says_what_writes_it(genre):
    (genre / "spoilt.jsonl").unlink()
    words = "names no file of text .*; python -m experiments.one_genre.corpus writes it"
    with pytest.raises(UserError, match=words):
        cells_of("one_genre/quick")
