"""What Hydra refuses comes out as one line with the key or file and the way out."""

import shutil

import pytest
from hydra import compose, initialize_config_dir

from glam.composition.explain import REFUSALS, explain_hydra_error
from glam.composition.overrides import CONF
from glam.composition.schema import register, to_run_config


@pytest.fixture
def conf(tmp_path):
    """A copy of conf/ that files may be added to."""
    return shutil.copytree(CONF, tmp_path / "conf")


def refusal(conf, *line: str) -> str:
    register()
    with (
        initialize_config_dir(str(conf), version_base="1.3"),
        pytest.raises(REFUSALS) as refused,
    ):
        to_run_config(compose("config", list(line)))
    said = explain_hydra_error(refused.value, list(line))
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            ["data.corpus.files=[a.txt]"],
            "data.corpus.files=[a.txt]: data/corpus=embedded has no files; add data/corpus=local",
        ),
        (
            ["optimizer=adafactor", "optimizer.beta1=0.3"],
            "optimizer.beta1=0.3: optimizer=adafactor has no beta1; add optimizer=adamw",
        ),
        (["task.prompt=x"], "task.prompt=x: task=train has no prompt; add task=generate"),
        (
            ["model.num_experts=[1,2]"],
            "model.num_experts=[1,2]: a whole number is expected, for example model.num_experts=16",
        ),
        (["seed=true"], "seed=true: a whole number is expected, for example seed=0"),
        (["rerun=3.5"], "rerun=3.5: true or false is expected, for example rerun=false"),
        (["training.seconds=x"], "training.seconds=x: a number, or null, is expected (unit: s)"),
        (
            ["data.left_out=tweets"],
            "data.left_out=tweets: a list, as [one,two] or [one], is expected",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_or_place_is_answered_with_the_way_out(line, said):
    assert refusal(CONF, *line) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num_expert: 4", "conf/model/mine.yaml: there is no key model.num_expert; did you mean "
         "model.num_experts"),
        ("hidden_size: 4", "there is no key model.hidden_size; did you mean model.d_model?"),
        ("router: {norm: 3}", "conf/model/mine.yaml: there is no key model.router.norm; did you "
         "mean model.router.normalize"),
        ("num_layers: abc", "conf/model/mine.yaml: model.num_layers: a whole number is expected"),
        ("router: 3", "conf/model/mine.yaml: model.router needs keys and values, not a int"),
        ("num_layers: [", "mine.yaml, line 2: not YAML"),
        ("defaults: [glam_tin]", "there is no model/glam_tin.yaml; did you mean glam_tiny"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_of_ones_own_is_told_with_the_file(conf, text, said):
    (conf / "model" / "mine.yaml").write_text(f"{text}\n")
    assert said in refusal(conf, "model=mine")


def test_a_misspelt_key_in_an_experiment_is_told_with_the_file(conf):
    file = conf / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\ntraining: {token: 5}\n")
    said = refusal(conf, "experiment=mine")
    assert said.startswith("conf/experiment/mine.yaml: there is no key training.token; did you")
    file.write_text("training: {tokens: 5}\n")
    assert "first line must be `# @package _global_`" in refusal(conf, "experiment=mine")
