"""What is refused, in which words; and every line suggested composes and is counted to fit."""

import dataclasses
import shlex
import shutil
from collections import namedtuple

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from glam.composition.overrides import CONF
from glam.composition.schema import register, to_run_config
from glam.config import ModelConfig, RunConfig, TrainingConfig
from glam.errors import UserError
from glam.machine.resources import Resources
from glam.planning import suggest
from glam.planning.memory import checkpoint_bytes, memory
from glam.planning.paper import PAPER_MODELS
from glam.planning.preflight import check_fits
from glam.planning.suggest import MARGIN, Search
from glam.planning.throughput import tokens_per_hour

GB = 10**9
DISK = namedtuple("DISK", "total used free")


def machine(gigabytes: float, precision="bfloat16", device="cpu") -> Resources:
    return Resources(
        threads=2,
        precision=precision,
        device=device,
        memory_bytes=int(gigabytes * GB),
        cores=2,
    )


def composed(*overrides: str) -> RunConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_run_config(compose("config", list(overrides)))


def refusal(line: list[str], resources: Resources) -> str:
    with pytest.raises(UserError) as refused:
        check_fits(composed(*line), resources, line)
    return str(refused.value)


def suggested_lines(message: str) -> list[list[str]]:
    lines = [line.strip() for line in message.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("python run.py ")]


@pytest.fixture(autouse=True)
def roomy_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DISK(10**13, 0, 10**13))


@pytest.mark.parametrize("gigabytes", [4, 8, 24, 64])
@pytest.mark.parametrize("name", ["glam_1b64e", "glam_64b64e", "glam_100m64e", "glam_137b"])
def test_every_suggested_line_composes_and_fits_with_a_margin(name, gigabytes):
    resources = machine(gigabytes)
    lines = suggested_lines(refusal([f"model={name}", "data=filtered"], resources))
    assert lines
    for line in lines:
        config = composed(*line)
        check_fits(config, resources, line)
        assert memory(config, "bfloat16").total <= MARGIN * resources.memory_bytes
        assert config.model.vocab_size <= 32_768
        assert config.training.tokens <= tokens_per_hour(config, resources)


@given(
    name=st.sampled_from(sorted(PAPER_MODELS)),
    gigabytes=st.floats(1.5, 2000),
    precision=st.sampled_from(["float32", "bfloat16"]),
    free_disk=st.floats(1, 10_000),
)
def test_whatever_the_machine_what_is_suggested_fits(name, gigabytes, precision, free_disk):
    config = RunConfig(model=PAPER_MODELS[name].config(), training=PAPER_TRAINING)
    resources = machine(gigabytes, precision)
    found = Search(config, resources, [f"model={name}"], int(free_disk * GB)).run()
    assert found  # glam_tiny fits everywhere
    for suggestion in found:
        needed = memory(suggestion.config, precision).total
        assert needed <= MARGIN * resources.memory_bytes
        assert checkpoint_bytes(suggestion.config) <= MARGIN * free_disk * GB


PAPER_TRAINING = TrainingConfig(tokens=600_000_000_000, batch_size=1024, sequence_length=1024)


def test_the_suggestion_is_the_configuration_that_its_line_composes():
    line = ["model=glam_1b64e", "data=filtered"]
    for gigabytes in (4, 24, 100):
        for found in Search(composed(*line), machine(gigabytes), line, 10**13).run():
            spelled = composed(*shlex.split(found.line(line))[2:])
            assert spelled == found.config


def test_the_first_line_stands_alone():
    first = refusal(["model=glam_1b64e"], machine(24)).splitlines()[0]
    assert first.startswith("model=glam_1b64e needs 3.2 TB of memory")
    assert "training.batch_size=1024" in first
    assert "this machine has 24.0 GB" in first


def test_the_table_sets_the_counts_beside_those_of_the_paper():
    message = refusal(["model=glam_1b64e"], machine(24))
    rows = {line.strip()[:17].strip(): line.split() for line in message.splitlines() if line}
    assert rows["parameters"] == ["parameters", "26.8", "B", "27", "B"]
    assert rows["active per token"] == ["active", "per", "token", "1.81", "B", "1.88", "B"]
    assert {"weights", "optimizer", "gradients", "activations", "total"} <= set(rows)
    assert rows["this machine"] == ["this", "machine", "24.0", "GB"]


def test_the_row_of_the_paper_that_is_at_odds_with_itself_is_called_so():
    message = refusal(["model=glam_1b32e"], machine(24))
    assert "the paper's 20 B: the shape it states holds 13.9 B" in message


def test_experts_go_before_layers_and_never_so_many_that_nothing_is_left_to_route():
    paper = PAPER_MODELS["glam_1b64e"]
    for gigabytes, layers in ((64, 24), (16, 12), (8, 6)):
        message = refusal(["model=glam_1b64e", "data=filtered"], machine(gigabytes))
        nearest = suggested_lines(message)[0]
        model = composed(*nearest).model
        assert nearest[:2] == ["model=glam_1b64e", "data=filtered"]
        assert (model.d_model, model.d_ff) == (paper.d_model, paper.d_ff)
        assert model.num_layers == layers
        assert model.top_k < model.num_experts < paper.num_experts


def test_where_a_smaller_batch_is_enough_the_model_stays():
    line = ["training.batch_size=4096", "training.sequence_length=1024", "model.num_layers=8"]
    nearest = suggested_lines(refusal(line, machine(8)))[0]
    assert composed(*nearest).model == composed(*line).model
    assert nearest[1:3] == line[1:]  # what was typed stands where it was typed
    assert nearest[0].startswith("training.batch_size=")


def test_a_smaller_model_keeps_what_was_typed_beside_it():
    line = ["model=glam_8b64e", "model.num_experts=32", "seed=7"]
    for suggested in suggested_lines(refusal(line, machine(24))):
        config = composed(*suggested)
        assert config.seed == 7
        assert "seed=7" in suggested


def test_a_key_that_the_default_models_optimizer_lacks_is_no_ground_to_suggest_nonsense():
    line = ["model=glam_1b64e", "optimizer.beta2_decay=0.7"]
    lines = suggested_lines(refusal(line, machine(24)))
    assert lines
    for suggested in lines:
        assert composed(*suggested).optimizer.name == "adafactor"


def test_where_nothing_near_fits_the_way_out_is_named():
    line = ["model.d_model=65536", "model.num_layers=2"]
    assert "choose a smaller model" in refusal(line, machine(2)).splitlines()[0]


def test_a_model_that_fits_passes_without_a_word(capsys):
    check_fits(RunConfig(), machine(4), [])
    assert capsys.readouterr() == ("", "")


def test_checkpoints_that_the_disk_cannot_hold_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DISK(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(UserError) as refused:
        check_fits(RunConfig(runs_dir="nowhere/yet"), machine(4), [])
    assert str(refused.value).startswith("runs_dir=nowhere/yet has 1 MB free")
    assert "\n" not in str(refused.value)


def test_a_refusal_looks_at_some_hundreds_of_configurations_and_not_at_thousands(monkeypatch):
    config = RunConfig(model=PAPER_MODELS["glam_64b64e"].config(), training=PAPER_TRAINING)
    looked_at = []

    def counted(config, precision):
        looked_at.append(config)
        return memory(config, precision)

    monkeypatch.setattr(suggest, "memory", counted)
    with pytest.raises(UserError):
        check_fits(config, machine(24), ["model=glam_64b64e"])
    assert 100 < len(looked_at) < 1000


def test_a_refused_configuration_is_left_as_it_was():
    config = RunConfig(model=ModelConfig(num_layers=5000), training=PAPER_TRAINING)
    before = dataclasses.asdict(config)
    with pytest.raises(UserError):
        check_fits(config, machine(8), [])
    assert dataclasses.asdict(config) == before
