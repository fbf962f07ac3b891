"""`config.json` of an exported folder gives back the shape that was exported."""

import json
from dataclasses import replace

import pytest

from glam.config import ModelConfig, RouterConfig
from glam.errors import UserError
from glam.runs.exported import read_exported, shape_of

FIXED = {"model_type": "glam_moe", "tokenizer_sha256": "0"}
MODELS = [
    ModelConfig(),
    ModelConfig(num_experts=1, logit_cap=30.0, d_head=24, moe_every=1, position_buckets=16),
    ModelConfig(top_k=3, router=RouterConfig(normalize=False)),
]


def written(folder, content):
    (folder / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_a_shape_comes_back(tmp_path, model):
    folder = written(tmp_path, {**FIXED, **shape_of(model), "transformers_version": "5"})
    assert read_exported(folder).model == replace(model, d_head=model.head_size)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"d_model": "64"}, "d_model='64': input should be a valid integer"),
        ({"d_ff": 0}, "model.d_ff=0 must lie between"),
        ({"model_type": None}, "model_type=None"),
    ],
)
def test_another_content_is_refused(tmp_path, change, reason):
    folder = written(tmp_path, {**FIXED, **shape_of(ModelConfig()), **change})
    with pytest.raises(UserError, match=reason):
        _ = read_exported(folder).model


def test_a_config_of_another_kind_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UserError, match="a folder that task=export wrote"):
        read_exported(written(tmp_path, {"model_type": "gpt2"}))
