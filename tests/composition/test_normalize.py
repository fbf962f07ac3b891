"""What people type and what Hydra reads mean the same."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from glam.composition.normalize import normalized
from glam.errors import UserError
from glam.log import configure


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("training.tokens=1e5", "training.tokens=100000"),
        ("training.tokens=100k,1M", "training.tokens=100000,1000000"),
        ("training.tokens=1.5B", "training.tokens=1500000000"),
        ("+training.tokens=2.5e+3", "+training.tokens=2500"),
        ("training.tokens=-1K", "training.tokens=-1000"),
        ("model.num_experts=choice(8,1.6e1)", "model.num_experts=choice(8,16)"),
        ("model.d_head=null", "model.d_head=null"),
        ("training.tokens=1_000", "training.tokens=1_000"),
        ("training.tokens=lots", "training.tokens=lots"),
        ("training.tokens='100k'", "training.tokens='100000'"),
        ("optimizer.learning_rate=1e-3", "optimizer.learning_rate=1e-3"),
        ("logger.project=100k", "logger.project=100k"),
        ("study=adhoc", "study=adhoc"),
        ("study=runs/studies/mine", "study.folder=runs/studies/mine"),
        ("study=latest", "study.folder=latest"),
        ("run=5e10", 'run="5e10"'),
        ("+run=1_000", '+run="1_000"'),
        ("run='1e3'", "run='1e3'"),
        ("study.name=true", 'study.name="true"'),
        ("run=nan", 'run="nan"'),
        ("run=null", "run=null"),
        ("run=~/a", 'run="~/a"'),
        ("study=~/a", 'study.folder="~/a"'),
        ("runs_dir='~/a'", "runs_dir='~/a'"),
        ("data.corpus.files=[~/a/*.txt,b,c~]", 'data.corpus.files=["~/a/*.txt",b,"c~"]'),
        ("run=0281", "run=0281"),
        ("runs_dir=1.5", 'runs_dir="1.5"'),
        ("data.left_out=[1e3,a,-.5]", 'data.left_out=["1e3",a,"-.5"]'),
        ("data.left_out=[1e3a,a 1e3]", "data.left_out=[1e3a,a 1e3]"),
        ("study.baseline=1e-3", "study.baseline=1e-3"),  # the value of another key
        ("model.name=жук", 'model.name="жук"'),
        ("-m", "-m"),
        ("evaluation.num_fewshot=0,1,8", "evaluation.num_fewshot=[0,1,8]"),
        ("evaluation.num_fewshot=0,1k,own", "evaluation.num_fewshot=[0,1000,own]"),
        ("evaluation.tasks=ünï,a b,${x}", r'evaluation.tasks=["ünï","a b","\${x}"]'),
        ("task.expert_scale=1/3:0,1/4:0.5", "task.expert_scale=[1/3:0,1/4:0.5]"),
        ("evaluation.num_fewshot=1k", "evaluation.num_fewshot=[1000]"),
        ("evaluation.num_fewshot=[0,1]", "evaluation.num_fewshot=[0,1]"),
        ("evaluation.tasks=a,1e3", 'evaluation.tasks=[a,"1e3"]'),
        ("evaluation=held_out", "evaluation=held_out"),
        ("run=a,b", 'run="a,b"'),
    ],
)
def test_a_command_is_read_as_it_is_meant(typed, read):
    assert normalized([typed]) == [read]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("training.tokens=1.5", "1.5 is not a whole number; did you mean 1 or 2?"),
        ("training.tokens=1e-3", "did you mean 0 or 1?"),
        ("model.num_experts=8,2.5", "2.5 is not a whole number"),
        ("seed=1e30", "1e30 is out of range"),
        ("seed=1e-9999", "out of range"),
    ],
)
def test_a_number_with_a_fraction_is_refused_where_a_whole_one_is_needed(typed, words):
    with pytest.raises(UserError) as refused:
        normalized([typed])
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_old_key_of_a_run_works_and_says_so(capsys, tmp_path):
    configure()
    (tmp_path / "cells.json").touch()
    assert normalized(["checkpoint=runs/a"]) == ["run=runs/a"]
    assert normalized([f"checkpoint={tmp_path}"]) == [f"study.folder={tmp_path}"]
    assert capsys.readouterr().err.splitlines() == [
        "checkpoint=runs/a: the key is now run=, read as run=runs/a",
        f"checkpoint={tmp_path}: the key is now study=, read as study={tmp_path}",
    ]


def test_names_of_tasks_stand_for_lm_evals():
    assert normalized(["evaluation=arc_easy,piqa"]) == [
        "evaluation=lm_eval",
        "evaluation.tasks=[arc_easy,piqa]",
    ]


def test_in_a_grid_several_runs_are_swept_and_lists_stay_lists():
    line = ["-m", "run=a,b", "evaluation=held_out,embedded", "evaluation.num_fewshot=0,1"]
    assert normalized(line) == [*line[:3], "evaluation.num_fewshot=[0,1]"]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30))
@example("1e3")
@example("${seed}")
@example("a\\${x")
@example("\\\\${oc.env:HOME}\\")
def test_a_prompt_is_read_as_it_stands(prompt):
    if len(prompt) > 1 and prompt[0] == prompt[-1] and prompt[0] in "'\"":
        return  # quotes around a prompt are Hydra's
    [line] = normalized([f"task.prompt={prompt}"])
    config = OmegaConf.create({"task": {"prompt": ""}})
    value = OverridesParser.create().parse_override(line).value()
    OmegaConf.update(config, "task.prompt", value)
    assert config.task.prompt == prompt
