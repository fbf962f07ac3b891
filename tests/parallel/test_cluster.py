"""Processes of torch under gloo against the same model in one process."""

import csv
from dataclasses import replace

import pytest
import torch
import toy
from processes import together
from safetensors.torch import load_file

from glam.config import AdafactorConfig, AdamWConfig, HardwareConfig
from glam.training import fit, train

RULES = {"batch": "expert", "experts": "expert", "embed": "expert"}
SIZES = [2, 4, 8]
# With a small eps AdamW makes whole steps of what rounding leaves of a gradient that is zero.
OPTIMIZERS = {"adafactor": AdafactorConfig(), "adamw": AdamWConfig(eps=1e-4)}


def hardware(size, rules=RULES):
    return HardwareConfig(
        name="cpu_node",
        device="cpu",
        precision="float32",
        mesh={"expert": size},
        rules=rules,
        memory_gb=1,
        peak_tflops=1,
        share_of_peak=0.1,
    )


def config(size=1, *, steps=20, rules=RULES, **changes):
    """A model whose axes eight processes can split; of one process by default."""
    made = toy.config(steps, **changes)
    return replace(
        made,
        model=replace(made.model, num_experts=8, num_heads=8, d_model=32),
        training=replace(made.training, batch_size=8, tokens=steps * 8 * 16, log_every=1),
        **({"hardware": hardware(size, rules)} if size > 1 else {}),
    )


def run(path, config):
    fit.code_fingerprint = lambda: "toy"
    return train(config, toy.prepared(), toy.folder(path), toy.RESOURCES)


def rows(path):
    with (path / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def weights(path):
    return load_file(sorted((path / "checkpoints").iterdir())[-1] / "model.safetensors")


def column(path, name):
    return [float(row[name]) for row in rows(path) if row[name]]


def assert_same_run(one, other):
    for name in ("loss", "grad_norm", "balance_loss", "held_out/mean", "load/1/3"):
        assert column(one, name) == pytest.approx(column(other, name), abs=1e-5), name
    expected = weights(other)
    for name, weight in weights(one).items():
        # The softmax does not see a bias that all distances share; buckets beyond 16 are not met.
        met = slice(0, 16) if name.endswith("bias_NR") else slice(None)
        torch.testing.assert_close(weight[..., met], expected[name][..., met], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory):
    path = tmp_path_factory.mktemp("one")
    before = fit.code_fingerprint
    for name, optimizer in OPTIMIZERS.items():
        run(path / name, config(optimizer=optimizer))
    fit.code_fingerprint = before
    return path


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_are_those_of_one_process(tmp_path, in_one_process, size, name):
    together(size, run, tmp_path, config(size, optimizer=OPTIMIZERS[name]))
    assert_same_run(tmp_path, in_one_process / name)
