"""What a job of a grid is told to run, and what it is weighed by."""

import sys

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from glam.composition.compose import Composer
from glam.composition.overrides import CONF
from glam.composition.schema import register
from glam.planning.memory import memory
from glam.studies.launchers.isolated import job_of


def test_a_job_is_weighed_by_what_accounting_predicts_of_its_cell():
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        loader = hydra.config_loader
        composer = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))
        lines = [
            [f"model.num_experts={count}", "hardware.precision=float32", "hardware.memory_gb=8"]
            for count in (8, 64)
        ]
        small, large = (job_of(line, composer) for line in lines)
        predicted = [memory(composer.config(line), "float32").total for line in lines]
        node = composer.config(["hardware=cpu_node"])
        several = job_of(["hardware=cpu_node"], composer)
    assert (several.threads, several.memory_bytes) == (2, 2 * memory(node, "float32").total)
    assert [small.memory_bytes, large.memory_bytes] == predicted
    assert small.memory_bytes < large.memory_bytes
    assert large.device_bytes == 8_000_000_000
    assert large.command[0] == sys.executable
    assert large.command[2:] == lines[1]
