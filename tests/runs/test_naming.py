"""A name says in what a run differs from the default."""

from dataclasses import replace

import pytest

from glam.config import (
    AdafactorConfig,
    AdamWConfig,
    DataConfig,
    FilterConfig,
    HardwareConfig,
    LocalCorpusConfig,
    ModelConfig,
    PaperScheduleConfig,
    RouterConfig,
    RunConfig,
    TrainingConfig,
)
from glam.runs.naming import differences, label, run_name

DEFAULT = RunConfig()
NANO = ModelConfig(name="glam_nano", d_model=16, d_ff=64)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (DEFAULT, "glam_tiny-16e-filtered-s0"),
        (replace(DEFAULT, hardware=HardwareConfig(max_jobs=1)), "glam_tiny-16e-filtered-s0"),
        (replace(DEFAULT, model=ModelConfig(moe_every=0)), "glam_tiny-dense-filtered-s0"),
        (
            replace(DEFAULT, data=DataConfig(filter=FilterConfig(name="none")), seed=3),
            "glam_tiny-16e-unfiltered-s3",
        ),
        (
            replace(DEFAULT, training=TrainingConfig(tokens=500_000)),
            "glam_tiny-16e-filtered-s0-tokens500k",
        ),
        (
            replace(DEFAULT, optimizer=AdafactorConfig(learning_rate=0.003)),
            "glam_tiny-16e-filtered-s0-adafactor-lr0.003",
        ),
        (
            replace(DEFAULT, model=ModelConfig(router=RouterConfig(normalize=False))),
            "glam_tiny-16e-filtered-s0-no_normalize",
        ),
        (
            replace(DEFAULT, data=DataConfig(corpus=LocalCorpusConfig(files=["a.txt"]))),
            "glam_tiny-16e-filtered-s0-local",
        ),
        (replace(DEFAULT, optimizer=AdamWConfig(beta2=0.9)), "glam_tiny-16e-filtered-s0-beta2_0.9"),
        (replace(DEFAULT, model=NANO), "glam_nano-16e-filtered-s0"),
        (replace(DEFAULT, model=replace(NANO, d_ff=32)), "glam_nano-16e-filtered-s0-d_ff32"),
        (
            replace(DEFAULT, model=ModelConfig(d_model=32, d_ff=32, num_layers=2, num_heads=2)),
            "glam_tiny-16e-filtered-s0-d_model32-num_layers2-d_ff32",
        ),
    ],
)
def test_a_name_says_what_differs_most(config, name):
    assert run_name(config) == name


def test_what_a_models_file_brings_is_no_difference_and_what_replaces_it_is():
    paper = replace(
        DEFAULT,
        model=ModelConfig(
            name="glam_1b64e", vocab_size=256_000, num_layers=24, d_model=2048, d_ff=8192,
            num_heads=16, num_experts=64,
        ),
        optimizer=AdafactorConfig(),
        schedule=PaperScheduleConfig(),
    )  # fmt: skip
    found = differences(paper)
    assert found["model.name"] == "glam_1b64e"
    assert not {key for key in found if key.startswith(("optimizer", "schedule"))}
    found = differences(replace(paper, optimizer=AdamWConfig(learning_rate=1e-3)))
    assert found["optimizer.name"] == "adamw"
    assert found["optimizer.learning_rate"] == 1e-3
    assert "optimizer.beta2" not in found


def test_the_default_differs_in_nothing_and_every_change_of_the_result_is_a_difference():
    assert differences(DEFAULT) == {}
    changed = replace(DEFAULT, seed=1, data=DataConfig(left_out=["tweets"], seed=2))
    assert differences(changed) == {"data.left_out": ["tweets"], "data.seed": 2, "seed": 1}


def test_a_label_is_the_last_name_where_that_is_enough():
    keys = ("model.num_experts", "optimizer.name", "data.filter.name", "data.seed", "seed")
    assert [label(key) for key in keys] == [
        "num_experts",
        "optimizer",
        "filter",
        "data.seed",
        "seed",
    ]
