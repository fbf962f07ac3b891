"""What exists is said once, by the class itself."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from glam.config import (
    BALANCE_LOSSES,
    CORPORA,
    DISPATCHERS,
    GROUPS,
    OPTIMIZERS,
    SCHEDULES,
    HardwareConfig,
    OptimizerConfig,
    RunConfig,
    TrainingConfig,
    from_mapping,
)
from glam.config.registry import Registry
from glam.errors import UserError


def small() -> Registry[object]:
    registry: Registry[object] = Registry("fruit")

    @registry.register
    class Pear:
        name = "pear"

    return registry


def test_a_class_is_found_by_its_name_and_a_typo_gets_the_nearest():
    registry = small()
    assert registry["pear"].__name__ == "Pear"
    with pytest.raises(UserError, match=r"fruit='paer' is not known; did you mean pear\?"):
        registry["paer"]


def test_two_classes_cannot_have_one_name():
    registry = small()

    class Quince:
        name = "pear"

    with pytest.raises(ValueError, match="fruit=pear is both Pear and Quince"):
        registry.register(Quince)


def test_a_class_without_a_name_cannot_be_chosen():
    class Nameless:
        pass

    with pytest.raises(ValueError, match="Nameless has no name for fruit="):
        small().register(Nameless)


def test_every_kind_has_what_comes_with_glam():
    assert set(OPTIMIZERS) >= {"adafactor", "adamw"}
    assert set(SCHEDULES) >= {"linear", "paper"}
    assert set(CORPORA) >= {"embedded", "local"}
    assert set(DISPATCHERS) >= {"capacity", "grouped"}
    assert set(BALANCE_LOSSES) >= {"entropy", "gshard", "none", "z_loss"}


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place, kinds in GROUPS.items() for name in kinds]
)
def test_a_saved_choice_comes_back_as_its_class(place, name):
    section, _, key = place.rpartition(".")
    content = {key: {"name": name}}
    config = from_mapping(RunConfig, {section: content} if section else content, may_lack=True)
    found = getattr(getattr(config, section) if section else config, key)
    assert type(found) is GROUPS[place][name]


def test_a_saved_choice_that_exists_no_more_is_refused():
    with pytest.raises(UserError, match="optimizer='lion' is not known; choose from"):
        from_mapping(RunConfig, {"optimizer": {"name": "lion"}}, may_lack=True)


@dataclass(kw_only=True)
class OnOneDevice(OptimizerConfig):
    """Declares nothing."""

    name: str = "plain"
    learning_rate: float = 0.1

    def state_size(self, shape):
        return 0


CLUSTER = HardwareConfig(
    **{"name": "cpu_node", "device": "cpu", "mesh": {"all": 2}, "rules": {"batch": "all"}},
    **{"peak_tflops": 1, "share_of_peak": 0.5, "memory_gb": 1},
)
XLA = HardwareConfig(
    **{"name": "xla_cpu", "device": "xla_cpu", "mesh": {"all": 2}, "rules": {"batch": "all"}},
    **{"peak_tflops": 1, "share_of_peak": 0.5, "memory_gb": 1},
)


@pytest.mark.parametrize("hardware", [CLUSTER, XLA], ids=lambda hardware: hardware.engine)
def test_an_engine_refuses_an_optimizer_that_does_not_declare_it(hardware):
    assert RunConfig(optimizer=OnOneDevice()).hardware.engine == "one_device"
    with pytest.raises(UserError) as refusal:
        RunConfig(optimizer=OnOneDevice(), hardware=hardware)
    assert str(refusal.value) == (
        f"hardware={hardware.name} does not support optimizer=plain, which does not train on the "
        f"engine {hardware.engine}; try optimizer=adafactor or adamw"
    )


def test_updating_in_backward_is_the_optimizers_capability():
    class OneAtATime(OnOneDevice):
        updates_one_weight = True

    training = TrainingConfig(update_in_backward=True)
    assert RunConfig(optimizer=OneAtATime(), training=training)
    with pytest.raises(UserError, match="optimizer=plain needs all gradients at once"):
        RunConfig(optimizer=OnOneDevice(), training=training)


def test_configurations_and_launchers_are_known_without_torch():
    heavy = {"torch", "lightning", "hydra"}
    code = f"import sys, glam.config; print([*{heavy!r} & set(sys.modules)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
