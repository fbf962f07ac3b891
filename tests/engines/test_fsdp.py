"""Processes of torch under gloo against the same model in one process."""

import contextlib
import csv
import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import poisoned
import psutil
import pytest
import torch
import toy
from breaking import break_off
from lm_eval.api.instance import Instance
from processes import together
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from glam.config import AdafactorConfig, AdamWConfig, HardwareConfig, RunConfig
from glam.engines import fsdp, sharded_checkpoint, torch_processes
from glam.engines.expert_parallel import ExpertParallel, local
from glam.engines.sharded_checkpoint import ShardedCheckpointIO
from glam.errors import Stopped, UserError
from glam.evaluation.language_model import GlamLM
from glam.machine.processes import SINGLE
from glam.machine.resources import resolve
from glam.model import Glam
from glam.model.moe.grouped import grouped
from glam.model.moe.routing import Routing
from glam.model.saved import saved_weights
from glam.training import fit, saving
from glam.training.module import TrainingModule

RULES = {"batch": "expert", "experts": "expert", "embed": "expert"}
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
    with pytest.MonkeyPatch.context() as patch:  # also in processes that have no fixtures
        patch.setattr(fit, "code_fingerprint", lambda: "toy")
        return toy.train(config, toy.prepared(), toy.folder(path), toy.RESOURCES)


def rows(path):
    with (path / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def weights(path):
    return saved_weights(path)


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
    for name, optimizer in OPTIMIZERS.items():
        run(path / name, config(optimizer=optimizer))
    return path


@pytest.mark.parametrize(("size", "name"), [(2, "adamw"), (4, "adafactor")])
def test_twenty_steps_are_those_of_one_process(tmp_path, in_one_process, size, name):
    together(size, run, tmp_path, config(size, optimizer=OPTIMIZERS[name]))
    assert_same_run(tmp_path, in_one_process / name)


def test_biases_move_by_the_load_of_all_processes(tmp_path):
    """Whole on every process; one alone has another load, which moves them otherwise."""

    def made(size):
        began = config(size, steps=7, optimizer=OPTIMIZERS["adafactor"])
        router = replace(began.model.router, balance_loss="loss_free", bias_rate=0.1)
        return replace(began, model=replace(began.model, router=router))

    run(tmp_path / "one", made(1))
    together(2, run, tmp_path / "two", made(2))
    assert_same_run(tmp_path / "two", tmp_path / "one")
    moved = weights(tmp_path / "two")["layers.1.ffn.router.bias_of_choice_E"]
    assert moved.unique().numel() > 1


def test_the_steps_of_eight_processes_are_those_of_one(tmp_path):
    """Fewer: so many wait for each other in every sum, most of the time for a core."""
    shorter = {"steps": 6, "optimizer": OPTIMIZERS["adafactor"]}
    run(tmp_path / "one", config(**shorter))
    together(8, run, tmp_path / "eight", config(8, **shorter))
    assert_same_run(tmp_path / "eight", tmp_path / "one")


TABLES = {
    "experts whole, other weights split": {"batch": "expert", "embed": "expert"},
    "experts split, other weights whole": {"batch": "expert", "experts": "expert"},
    "all weights whole": {"batch": "expert"},
    "split along other axes": {"batch": "expert", "vocab": "expert", "hidden": "expert"},
}


def judged(model, processes=SINGLE):
    """Log-likelihoods and written answers, as tasks at the end of a run ask for them."""
    lm = GlamLM(model, toy.ToyTokenizer(), max_length=16, processes=processes)
    pairs = [("ABC", "DEF"), ("ABC", "D"), ("XYZXYZ", "XY")]
    nats = lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs])
    asked = ("ABCDEF", {"until": ["!"], "max_gen_toks": 5})
    return [pair[0] for pair in nats], lm.generate_until([Instance("generate_until", {}, asked, 0)])


def run_and_judge(path, config):
    result = run(path, config)
    found = judged(result.model, result.processes)
    if result.processes.is_main:
        (path / "judged.json").write_text(json.dumps(found))


@pytest.mark.parametrize("table", TABLES)
def test_another_table_is_the_same_run_with_the_same_tasks(tmp_path, in_one_process, table):
    made = config(2, rules=TABLES[table], optimizer=OPTIMIZERS["adafactor"])
    together(2, run_and_judge, tmp_path, made)
    one = in_one_process / "adafactor"
    assert_same_run(tmp_path, one)
    nats, texts = json.loads((tmp_path / "judged.json").read_text())
    model = Glam(made.model)
    model.load_state_dict(weights(one))
    expected = judged(model)
    assert nats == pytest.approx(expected[0], abs=1e-3)
    assert texts == expected[1]


def gradients(path, size):
    """Each rank's share of those of one batch, put together by the first."""
    made = config(size)
    engine = fsdp.FsdpEngine(made, "cpu")
    with torch.device("meta"):
        model = Glam(made.model, backend=engine.backend)
    engine.materialize(model, seed=0)
    module = engine.module(model, made, train_state=None)
    tokens = torch.randint(64, (8, 16), generator=torch.Generator().manual_seed(0))
    mine = engine.processes.rows(8)
    part = tokens[mine.start : mine.stop]
    output = model.loss(part, part.roll(-1, 1))
    (output.loss + output.balance_loss).backward()
    norm = module.grad_norm()
    found = {name: whole(p.grad) for name, p in model.named_parameters()}
    assert_split_by_the_table(model, size)
    if engine.processes.is_main:
        torch.save(found | {"norm": norm}, path)


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def assert_split_by_the_table(model, size):
    """Of what a process holds."""
    for name, parameter in model.named_parameters():
        parts = 1 if name.rpartition(".")[2] in ("scale_M", "bias_E", "bias_NR") else size
        assert local(parameter).numel() * parts == parameter.numel(), name


def test_every_gradient_is_that_of_one_process(tmp_path):
    together(4, gradients, tmp_path / "found.pt", 4)
    model = Glam(config().model)
    tokens = torch.randint(64, (8, 16), generator=torch.Generator().manual_seed(0))
    output = model.loss(tokens, tokens.roll(-1, 1))
    (output.loss + output.balance_loss).backward()
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=0)
    expected = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    torch.testing.assert_close(found["norm"], expected)


# What each of 16 tokens chooses, of eight experts that four processes have.
CHOICES = {
    "evenly": [[n % 8, (n + 3) % 8] for n in range(16)],
    "most go to one process": [[n % 2, 2 if n % 5 else 7] for n in range(16)],
    "an expert gets nothing": [[n % 4, 4 + n % 3] for n in range(16)],
    "two processes get nothing": [[0, 1 + n % 3] for n in range(16)],
}


def layer(choices, seed=0):
    """Input, gates, routing and experts of all tokens, in float64."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 4, 6, generator=draw, dtype=torch.float64).requires_grad_()
    gates = torch.rand(16, 2, generator=draw, dtype=torch.float64).requires_grad_()
    made = Glam(replace(config().model, d_model=6, d_ff=10, num_heads=2)).layers[1].ffn
    experts = made.experts.double()
    for parameter in experts.parameters():
        parameter.data.normal_(generator=draw)
    return x, Routing(torch.tensor(choices), gates, torch.zeros(16, 8)), experts


def serve(path, choices):
    fsdp.FsdpEngine(config(4), "cpu")
    mesh = init_device_mesh("cpu", (4,))
    rank = mesh.get_local_rank()
    x, routing, experts = layer(choices)
    for name, weight in list(experts.named_parameters()):
        here = distribute_tensor(weight.data, mesh, [Shard(0)])
        setattr(experts, name, torch.nn.Parameter(here))
    mine = slice(4 * rank, 4 * rank + 4)
    part = Routing(*(each[mine] for each in routing))
    y = ExpertParallel(mesh.get_group())(x[rank : rank + 1], part, experts).y
    y.square().sum().backward()
    found = {"y": y.detach(), "x": x.grad[rank], "gates": routing.gates.grad[mine]}
    weights = {name: w.grad.full_tensor() for name, w in experts.named_parameters()}
    torch.save(found | weights, path / f"{rank}.pt")


@pytest.mark.parametrize("loads", CHOICES)
def test_experts_elsewhere_serve_as_those_here(tmp_path, loads):
    together(4, serve, tmp_path, CHOICES[loads])
    x, routing, experts = layer(CHOICES[loads])
    y = grouped(x, routing, experts).y
    y.square().sum().backward()
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(4)]
    joined = {name: torch.cat([each[name] for each in found]) for name in ("y", "x", "gates")}
    torch.testing.assert_close(joined["y"], y.detach())
    torch.testing.assert_close(joined["x"].view_as(x), x.grad)
    torch.testing.assert_close(joined["gates"], routing.gates.grad)
    for name, weight in experts.named_parameters():
        torch.testing.assert_close(found[0][name], weight.grad)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_goes_on_in_other_numbers_of_processes(tmp_path, in_one_process, name):
    """Begun in four, gone on with in one, ended in two."""
    changes = {"optimizer": OPTIMIZERS[name]}
    together(4, break_off, run, tmp_path, config(4, **changes), 7)
    before = weights(tmp_path)
    break_off(run, tmp_path, config(**changes), 13)
    assert not all(torch.equal(before[name], value) for name, value in weights(tmp_path).items())
    together(2, run, tmp_path, config(2, **changes))
    assert_same_run(tmp_path, in_one_process / name)


def loaded(path, size):
    """A checkpoint of training, loaded by several processes: the leader keeps what they have, of
    weights and of optimizer state."""
    seen = {}

    def fit(trainer, module):
        for name, parameter in module.model.named_parameters():
            seen[name] = whole(parameter.detach())
            state = trainer.optimizers[0].state[parameter]
            seen.update({f"{name}/{key}": whole(value) for key, value in state.items()})
        trainer.should_stop = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving.Checkpoints, "on_train_start", lambda self, *both: fit(*both))
        patch.setattr(saving.Checkpoints, "_save", lambda self, trainer: None)
        with contextlib.suppress(Exception):
            run(path, config(size, optimizer=OPTIMIZERS["adamw"]))
    if int(os.environ.get("RANK", 0)) == 0:
        torch.save(seen, path / f"loaded-{size}.pt")


def test_what_two_processes_saved_is_loaded_bit_for_bit_by_fewer_and_by_more(tmp_path):
    together(2, break_off, run, tmp_path, config(2, optimizer=OPTIMIZERS["adamw"]), 3)
    loaded(tmp_path, 1)
    together(8, loaded, tmp_path, 8)
    first, other = (torch.load(tmp_path / f"loaded-{n}.pt", weights_only=True) for n in (1, 8))
    assert len(first) == 4 * len(weights(tmp_path))  # a weight, its two moments and its step
    assert other.keys() == first.keys()
    assert all(torch.equal(other[name], value) for name, value in first.items())
    for name, weight in weights(tmp_path).items():
        assert torch.equal(first[name], weight)


def test_a_finished_run_is_loaded_bit_for_bit(tmp_path):
    run(tmp_path, config(steps=3))
    together(2, finished, tmp_path)
    for name, weight in torch.load(tmp_path / "loaded.pt", weights_only=True).items():
        assert torch.equal(weight, weights(tmp_path)[name])


def finished(path):
    result = run(path, config(2, steps=3))
    found = {name: whole(p.detach()) for name, p in result.model.named_parameters()}
    if result.processes.is_main:
        torch.save(found, path / "loaded.pt")


SHARD = ShardedCheckpointIO._write_mine


def die_in_mid_save(path, size):
    """Before its part of the checkpoint of step 9 stands, the last process and so all are gone."""

    def write_mine(self, part, mine):
        if mine.state["training"]["step"] == 9 and self._processes.rank == size - 1:
            part.mkdir(parents=True, exist_ok=True)
            (part / "model-00002-of-00002.safetensors").write_bytes(b"half")
            os._exit(0)
        SHARD(self, part, mine)

    ShardedCheckpointIO._write_mine = write_mine
    sharded_checkpoint.PATIENCE_SECONDS = 1.0
    made = config(size, optimizer=OPTIMIZERS["adafactor"])
    with contextlib.suppress(Exception):
        run(path, replace(made, training=replace(made.training, checkpoint_minutes=1e-9)))
    os._exit(0)


def test_a_process_that_dies_in_mid_save_loses_nothing_that_was_whole(tmp_path, in_one_process):
    together(2, die_in_mid_save, tmp_path, 2)
    folders = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert folders[-1] == "step-00000008"
    together(2, run, tmp_path, config(2, optimizer=OPTIMIZERS["adafactor"]))
    assert_same_run(tmp_path, in_one_process / "adafactor")


def save_on_a_full_disk(path, size):
    def write_mine(self, part, mine):
        if mine.state["training"]["step"] == 9 and self._processes.rank == size - 1:
            part.mkdir(exist_ok=True)
            raise OSError(errno.ENOSPC, "No space left on device")
        SHARD(self, part, mine)

    ShardedCheckpointIO._write_mine = write_mine
    made = config(size, optimizer=OPTIMIZERS["adafactor"])
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard):
        run(path, replace(made, training=replace(made.training, checkpoint_minutes=1e-9)))
    (path / f"heard-{os.environ['RANK']}").write_text(heard.getvalue())


def test_a_part_that_cannot_be_written_costs_a_line(tmp_path, in_one_process):
    together(2, save_on_a_full_disk, tmp_path, 2)
    line = "step-00000009 could not be saved, the last one stays: process 1: [Errno 28] No space"
    assert line in (tmp_path / "heard-0").read_text()
    assert "could not" not in (tmp_path / "heard-1").read_text()
    assert_same_run(tmp_path, in_one_process / "adafactor")


def stopped(path, size):
    """The last process alone is asked to stop, in its fifth step."""
    once = TrainingModule.training_step

    def training_step(self, batch, batch_idx):
        if self.train_state.step == 4 and int(os.environ["RANK"]) == size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return once(self, batch, batch_idx)

    TrainingModule.training_step = training_step
    # Lightning's own requeueing would answer, and read this file.
    os.environ |= {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "glam", "SLURM_JOB_ID": "7"}
    (toy.folder(path).path / "hpc_ckpt_1.ckpt").write_bytes(b"of Lightning's")
    with pytest.raises(Stopped) as stopped:
        run(path, config(size, optimizer=OPTIMIZERS["adafactor"]))
    assert stopped.value.number == signal.SIGTERM


def test_when_one_is_asked_to_stop_all_save_the_same_step(tmp_path, in_one_process):
    together(2, stopped, tmp_path, 2)
    assert [row["step"] for row in rows(tmp_path)][-1] == "5"
    run(tmp_path, config(optimizer=OPTIMIZERS["adafactor"]))
    assert_same_run(tmp_path, in_one_process / "adafactor")


class KilledError(Exception):
    pass


def poisoned_run(path, made, kill=False):
    """A run that goes back once; killed before it has loaded the checkpoint."""
    made = replace(made, training=replace(made.training, **poisoned.RULES))
    trainers, once = [], fit._Loop

    def trainer(*args):
        trainers.append(once(*args))
        if kill and len(trainers) == 2:
            raise KilledError
        return trainers[-1]

    with pytest.MonkeyPatch.context() as patch:
        poisoned.poison(patch, 25)
        patch.setattr(fit, "_Loop", trainer)
        with pytest.raises(KilledError) if kill else contextlib.nullcontext():
            run(path, made)


def rollbacks(path):
    """As the last checkpoint holds them, without their seconds."""
    [*_, last] = sorted((path / "checkpoints").glob("step-*"))
    state = torch.load(last / sorted(p.name for p in last.glob("state*.pt"))[0], weights_only=True)
    return [{**one, "lost_seconds": 0} for one in state["training"]["watch"]["rollbacks"]]


@pytest.mark.slow
def test_all_go_back_together_as_one_process_does_and_killed_in_it_they_do_again(tmp_path):
    changes = {"steps": 40, "optimizer": AdamWConfig(learning_rate=0.02, eps=1e-4)}
    poisoned_run(tmp_path / "one", config(**changes))
    [expected] = rollbacks(tmp_path / "one")
    assert (expected["step"], expected["restored_step"], expected["last_batch"]) == (26, 15, 25)
    together(2, poisoned_run, tmp_path / "two", config(2, **changes))
    [found] = rollbacks(tmp_path / "two")
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-3)
    like = {"loss": expected["loss"], "limit": expected["limit"]}
    assert found | like == expected
    together(2, poisoned_run, tmp_path / "killed", config(2, **changes), True)
    together(2, poisoned_run, tmp_path / "killed", config(2, **changes))
    assert rollbacks(tmp_path / "killed") == [found]
    assert column(tmp_path / "killed", "loss") == column(tmp_path / "two", "loss")
    expected = weights(tmp_path / "two")
    assert all(torch.equal(w, expected[n]) for n, w in weights(tmp_path / "killed").items())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {
                "mesh": {"a": 2, "b": 2, "expert": 2},
                "rules": {**RULES, "hidden": "a", "heads": "b"},
            },
            "take one axis that splits batch, and at most one more",
        ),
        ({"rules": {"experts": "expert"}}, "take one axis that splits batch"),
        ({"rules": {**RULES, "activation": "expert"}}, "activation cannot be split along expert"),
        (
            {"mesh": {"expert": 2, "model": 2}, "rules": {**RULES, "embed": "model"}},
            "embed cannot be split along model, which is for activation, heads, hidden, vocab",
        ),
        ({"mesh": {"expert": 3}}, "hardware.mesh.expert=3 does not divide training.batch_size=8"),
        ({"mesh": {"expert": 4096}}, "is of 4096 processes, too many for"),
        ({"device": "gpu", "mesh": {"expert": 64}}, "is of 64 GPUs and this machine has"),
    ],
)
def test_what_processes_do_not_do_is_refused(changes, line):
    made = RunConfig(hardware=replace(hardware(2), **changes))
    with pytest.raises(UserError, match=line):
        resolve(made)


def test_other_processes_than_the_mesh_has_are_refused(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="is of 2 devices and torchrun started 4 processes"):
        resolve(RunConfig(hardware=hardware(2)))
    with pytest.raises(UserError, match="is one device and torchrun started 4 processes"):
        resolve(RunConfig())


def of_one_node(monkeypatch, *, rank, size, here, address="127.0.0.1"):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": here}
    for name, value in (named | {"MASTER_ADDR": address, "MASTER_PORT": port}).items():
        monkeypatch.setenv(name, str(value))
    return port


def test_processes_of_one_node_need_no_name_of_their_machine(monkeypatch):
    """torchrun names the machine by its host name, which not every network resolves."""
    of_one_node(monkeypatch, rank=0, size=1, here=1, address="no-such-host.invalid")
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # undone with the test
        monkeypatch.delenv(name)
    torch_processes.meet("cpu")
    try:
        assert os.environ["MASTER_ADDR"] == "127.0.0.1"
        addresses = psutil.net_if_addrs()[os.environ["GLOO_SOCKET_IFNAME"]]
        assert "127.0.0.1" in [one.address for one in addresses]
    finally:
        torch.distributed.destroy_process_group()
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.pop(name)


ALONE = """
from glam import log
from glam.engines.torch_processes import meet
from glam.machine import waiting
log.configure()
waiting.SECONDS = 1.0
meet("cpu")
"""


def test_a_node_that_does_not_come_is_waited_for_up_to_a_limit(monkeypatch):
    port = of_one_node(monkeypatch, rank=0, size=2, here=1)
    ended = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        f"error: waited 1 s for 2 processes to meet at 127.0.0.1:{port}; start the command on "
        f"every node, where that address is reachable, and prepare the text there first "
        f"(task=prepare)"
    )
