"""A grid composes few times, and each line comes out as if it stood alone."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from glam.composition.compose import Composer
from glam.composition.overrides import CONF
from glam.composition.schema import register


@pytest.fixture
def composer():
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        loader = hydra.config_loader
        master = loader.load_configuration("config", [], RunMode.MULTIRUN)
        yield lambda: Composer(loader, master)


LINES = [
    ["model.num_experts=4", "seed=1"],
    ["model.num_experts=8", "seed=2"],
    ["seed=3"],
    ["data/corpus=local", "data.corpus.files=[a.txt,b.txt]", "seed=1"],
    ["data/corpus=local", "data.corpus.files=[c.txt]", "seed=1"],
    ["hardware=xla_cpu", "hardware.mesh={expert:8}"],
    ["hardware=xla_cpu", "hardware.mesh={model:4}"],
    ["+hardware.mesh.expert=1", "seed=4"],
    ["+hardware.mesh.expert=1", "seed=5"],
]


def test_no_line_of_a_grid_leaves_anything_to_the_next(composer):
    together = composer()
    assert [together.config(line) for line in LINES] == [composer().config(line) for line in LINES]


def test_what_a_line_became_is_not_changed_by_the_next(composer):
    together = composer()
    first = together.config(LINES[3])
    together.config(LINES[4])
    assert list(first.data.corpus.files) == ["a.txt", "b.txt"]


def test_a_swept_value_is_recorded_as_it_was_composed(composer):
    """A quoted number among numbers has no place on a page's axis."""
    line = ["model='glam_tiny'", "model.num_experts='4'", "optimizer.learning_rate=1", "seed=2"]
    swept = ["model", "model.num_experts", "optimizer.learning_rate", "seed"]
    found = composer().values(line, swept)
    assert found["model"] == "glam_tiny"
    assert (found["model.num_experts"], type(found["model.num_experts"])) == (4, int)
    assert str(found["optimizer.learning_rate"]) == "1"  # as it was typed: it is equal
    assert found["seed"] == 2


@pytest.mark.parametrize("typed", ["={constraint:skylake}", ".constraint=skylake"])
def test_a_mapping_for_another_program_takes_any_name(composer, typed):
    config = composer().config([f"data.slurm.options{typed}"])
    assert config.data.slurm.options == {"constraint": "skylake"}
    line = ["hydra/launcher=submitit_slurm", f"hydra.launcher.additional_parameters{typed}"]
    found = compose("config", line, return_hydra_config=True)
    assert found.hydra.launcher.additional_parameters == {"constraint": "skylake"}


def test_a_swept_key_of_a_mapping_is_recorded_too(composer):
    line = ["hardware=xla_cpu", "hardware.mesh.expert='8'"]
    assert composer().values(line, ["hardware.mesh.expert"]) == {"hardware.mesh.expert": 8}
