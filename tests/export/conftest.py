"""Runs that were not trained but look as if, and what they are exported to."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).parent))

from shapes import SAMPLE, SPARSE

from glam.config import LocalCorpusConfig, RunConfig, TrainingConfig
from glam.data import Tokenizer
from glam.data.tokenizer import train_tokenizer
from glam.export import export_model
from glam.model import Glam
from glam.runs.record import Record


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, [SAMPLE * 2, "buy 3 then 9", "the end of the people"] * 20, 288)
    return Tokenizer(folder)


@pytest.fixture(scope="session")
def described():
    """`described(model)`: the configuration of a run with this model, whose text is the user's."""

    def config(model):
        config = RunConfig(model=model, training=TrainingConfig(sequence_length=16, batch_size=3))
        corpus = LocalCorpusConfig(files=["nowhere.jsonl"])
        return replace(config, data=replace(config.data, corpus=corpus))

    return config


@pytest.fixture(scope="session")
def exported(tmp_path_factory, tokenizer, described):
    """`exported(model)`: the folder, and the model that it was made of."""

    def export(shape):
        model = Glam(shape)
        model.initialize(1)
        torch.manual_seed(1)
        for name, value in model.named_parameters():
            if "bias" in name or "scale" in name:  # they start alike
                value.data += 0.3 * value.data.clone().normal_()
        folder = tmp_path_factory.mktemp("exported") / "a folder; import os"
        export_model(folder, model.eval(), tokenizer, described(shape), Record.read(folder))
        return folder, model

    return export


@pytest.fixture(scope="session")
def sparse(exported):
    return exported(SPARSE)


@pytest.fixture(autouse=True)
def modules(tmp_path_factory, monkeypatch):
    """Where transformers copies code to, in the place of the user's cache."""
    from transformers import dynamic_module_utils

    folder = str(tmp_path_factory.getbasetemp() / "modules")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", folder)
