"""Experts in a pool that cannot hold them all."""

import json
import subprocess
import sys

import pytest
import torch
from tiny_models import END, model_of

from glam.config import ModelConfig, RunConfig
from glam.errors import UserError
from glam.model import Glam
from glam.model.decoding.continue_tokens import continue_tokens
from glam.model.decoding.decoder import GrowingContext
from glam.model.decoding.serve import serve
from glam.model.decoding.served_weights import quantize
from glam.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("kernels_here")
PROMPTS = [[0, 3, 4], [0, *range(5, 48)], [2]]
SHAPE = {"num_experts": 6, "moe_every": 1}
EXPERT = 2 * 16 * 24 * 4  # bytes


@pytest.fixture(scope="module")
def run(tmp_path_factory, save_weights):
    model = model_of(**SHAPE)
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "tiny")
    folder.path.mkdir()
    folder.write_config(RunConfig(model=model.config))
    save_weights(folder.path, model.state_dict(), 1)
    return folder.path


def written(model, decoder=None):
    return continue_tokens(model, PROMPTS, max_tokens=20, end=END, decoder=decoder)


@pytest.mark.parametrize("seats", [1, 2, 5, 100])
def test_a_pool_of_any_size_writes_the_same_text(run, seats):
    served = serve(run, pool_bytes=seats * EXPERT + 3)
    assert len(served.weights.pool) == min(seats, 12)
    assert written(served.model, served.decoder) == written(Glam.from_run(run))
    assert served.weights.misses >= min(seats, 2)
    served.weights.close()


def test_an_expert_that_has_a_seat_is_not_read_again(run):
    served = serve(run)
    written(served.model, served.decoder)
    assert served.weights.misses <= 12 < served.weights.hits
    served.weights.close()


def test_the_expert_asked_for_longest_ago_makes_room(run):
    weights = serve(run, pool_bytes=2 * EXPERT).weights
    for expert in (0, 1, 0, 2):
        list(weights.groups(0, [expert]))
    assert list(weights.seats) == [(0, 0), (0, 2)]
    list(weights.groups(1, [0, 0 + 3, 5]))  # more than there are seats: two, then one
    assert list(weights.seats) == [(1, 3), (1, 5)]
    weights.close()


@torch.no_grad()
def test_experts_in_int8_are_those_that_rounding_gives(run):
    served = serve(run, int8=True, pool_bytes=3 * EXPERT // 4)
    rounded = Glam.from_run(run)
    for layer in rounded.layers:
        for stack in (layer.ffn.experts.w_in_EMH, layer.ffn.experts.w_out_EHM):
            scales = stack.data.abs().amax(1, keepdim=True) / 127
            stack.data = (stack.data / scales).round() * scales
    exact = GrowingContext(rounded).start(PROMPTS)
    found = served.decoder.start(PROMPTS)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-3)
    plain = GrowingContext(Glam.from_run(run)).start(PROMPTS)
    assert 1e-3 < (found - plain).abs().max() < 1
    served.weights.close()


def test_a_column_of_zeros_stays_so():
    weights, rounded, scales = torch.zeros(3, 2), torch.ones(3, 2, dtype=torch.int8), torch.ones(2)
    weights[:, 1] = torch.tensor([1.0, -2.0, 0.5])
    quantize(weights, rounded, scales)
    assert rounded.tolist() == [[0, 64], [0, -127], [0, 32]]
    assert scales.tolist() == pytest.approx([0, 2 / 127])


@torch.no_grad()
def test_a_threshold_leaves_out_choices_of_a_small_gate_and_no_first(run):
    model = Glam.from_run(run)
    router = model.layers[0].ffn.router
    logits = torch.randn(50, 6)
    before = router.route(logits)
    model.use_experts_above(0.4)
    after = router.route(logits)
    used = (before.gates > 0.4) | (torch.arange(2) == 0)
    assert 0 < (~used).sum() < 50
    assert torch.equal(after.gates, before.gates * used)
    assert torch.equal(router.train().route(logits).gates, before.gates)
    model.eval()
    served = serve(run, pool_bytes=2 * EXPERT)
    served.model.use_experts_above(0.4)
    exact = GrowingContext(model).start(PROMPTS)
    torch.testing.assert_close(served.decoder.start(PROMPTS), exact, rtol=1e-4, atol=1e-4)
    served.weights.close()


def test_what_cannot_be_served_is_refused_in_a_line(run, tmp_path, save_weights, monkeypatch):
    with pytest.raises(UserError, match=r"task.memory_mb=0.001 holds no expert.*0.00307 MB"):
        serve(run, pool_bytes=1000)
    dense = RunFolder(tmp_path / "dense")
    dense.path.mkdir()
    dense.write_config(RunConfig(model=ModelConfig(num_experts=1)))
    save_weights(dense.path, Glam(ModelConfig(num_experts=1)).state_dict(), 1)
    with pytest.raises(UserError, match="has no experts"):
        serve(dense.path)
    monkeypatch.setattr("glam.kernels.has", lambda name: False)
    with pytest.raises(UserError, match="need the CPU kernels"):
        serve(run)


MEASURE = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from glam.model.decoding.continue_tokens import continue_tokens
from glam.model.decoding.serve import serve

def anonymous():
    line = next(l for l in open("/proc/self/status") if l.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

run, pool = Path(sys.argv[1]), int(sys.argv[2])
served = serve(run, pool_bytes=pool)
continue_tokens(served.model, [[0]], max_tokens=1, end=-1, decoder=served.decoder)
before = anonymous()
prompts = [[37 * at % 64 for at in range(90)], [0, 9]]
made = continue_tokens(served.model, prompts, max_tokens=20, end=-1, decoder=served.decoder)
print({"grown": anonymous() - before, "made": made, "misses": served.weights.misses})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory_stays_under_the_cap_where_experts_exceed_it(tmp_path, save_weights):
    config = ModelConfig(
        vocab_size=64, num_layers=2, d_model=128, d_ff=1024, num_heads=2, num_experts=32
    )
    model, pool = Glam(config), 8_000_000
    model.initialize(1)
    for part in model.modules():
        if hasattr(part, "w_ME"):
            part.w_ME.data.normal_(0, 1)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_config(RunConfig(model=config))
    save_weights(folder.path, model.state_dict(), 1)
    command = [sys.executable, "-c", MEASURE, str(folder.path), str(pool)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(said.replace("'", '"'))
    prompts = [[37 * at % 64 for at in range(90)], [0, 9]]
    exact = continue_tokens(model.eval(), prompts, max_tokens=20, end=-1)
    assert found["made"] == exact
    assert found["misses"] > 32  # some came, went and came again
    assert found["grown"] < pool + 4_000_000 < 32 * 2 * 128 * 1024 * 4
