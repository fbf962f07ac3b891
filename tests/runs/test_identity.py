"""Two runs are the same run when nothing that determines the result differs."""

from dataclasses import replace

import pytest

from glam.config import (
    AdafactorConfig,
    DataConfig,
    FilterConfig,
    HardwareConfig,
    LoggerConfig,
    ModelConfig,
    RouterConfig,
    RunConfig,
    StudyConfig,
    TrainingConfig,
)
from glam.machine.resources import Resources
from glam.runs.identity import code_fingerprint, run_id

HERE = Resources(threads=1, precision="bfloat16", device="cpu", memory_bytes=8 << 30, cores=2)
DEFAULT = RunConfig()


@pytest.mark.parametrize(
    "config",
    [
        replace(DEFAULT, seed=1),
        replace(DEFAULT, model=ModelConfig(num_experts=8)),
        replace(DEFAULT, model=ModelConfig(router=RouterConfig(normalize=False))),
        replace(DEFAULT, data=DataConfig(filter=FilterConfig(name="none"))),
        replace(DEFAULT, optimizer=AdafactorConfig()),
        replace(DEFAULT, training=TrainingConfig(tokens=1024)),
    ],
)
def test_what_determines_the_result_changes_the_id(config):
    assert run_id(config, HERE) != run_id(DEFAULT, HERE)


@pytest.mark.parametrize(
    "config",
    [
        replace(DEFAULT, logger=LoggerConfig(name="csv")),
        replace(DEFAULT, study=StudyConfig(name="mine")),
        replace(DEFAULT, hardware=HardwareConfig(max_jobs=1)),
        replace(DEFAULT, rerun=True),
        replace(DEFAULT, runs_dir="elsewhere"),
        replace(DEFAULT, model=ModelConfig(name="other")),
        replace(DEFAULT, training=TrainingConfig(log_every=1, checkpoint_minutes=9)),
    ],
)
def test_what_does_not_determine_the_result_keeps_the_id(config):
    assert run_id(config, HERE) == run_id(DEFAULT, HERE)


def test_threads_and_precision_are_part_of_the_id_and_memory_is_not():
    ids = {
        run_id(DEFAULT, replace(HERE, threads=2)),
        run_id(DEFAULT, replace(HERE, precision="float32")),
        run_id(DEFAULT, HERE),
    }
    assert len(ids) == 3
    assert run_id(DEFAULT, replace(HERE, memory_bytes=1, cores=99)) == run_id(DEFAULT, HERE)


def test_the_default_run_keeps_its_id_from_version_to_version():
    # Changing a default is a breaking change: finished runs would be trained again. Renew this
    # line only on purpose, and say so in CHANGELOG.md.
    assert run_id(DEFAULT, HERE) == "bec9f5b744"


def test_the_code_fingerprint_is_stable_within_a_process():
    assert code_fingerprint() == code_fingerprint()
    assert len(code_fingerprint()) == 16
