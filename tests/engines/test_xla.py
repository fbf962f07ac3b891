"""XLA on eight virtual devices against the same model on one CPU. In .venv-xla alone (make xla)."""

import csv
import dataclasses
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import test_fsdp
import torch
import toy
from breaking import break_off
from poisoned import RULES as RULES_OF_ROLLBACK
from poisoned import poison
from processes import together
from safetensors.torch import load_file

pytest.importorskip("torch_xla")

from glam.config import AdafactorConfig, AdamWConfig, HardwareConfig, RunConfig, layout
from glam.config.layout import partition
from glam.engines import xla
from glam.errors import UserError
from glam.model import Glam
from glam.model.backend import ONE_DEVICE
from glam.planning.changes import changed
from glam.training import fit

pytestmark = pytest.mark.xla

RULES = {
    **{"batch": "expert", "activation": "model", "experts": "expert", "embed": "expert"},
    **{"heads": "model", "hidden": "model", "vocab": "model"},
}
IN_ONE_WORKER = pytest.mark.xdist_group("2x4")  # two tests of one trained run
# (4, 2) where a run goes on on other meshes
MESHES = [(8, 1), (1, 8), pytest.param((2, 4), marks=IN_ONE_WORKER)]
ON_XLA = replace(toy.RESOURCES, device="xla")


def hardware(expert, model):
    return HardwareConfig(
        name="xla_cpu",
        device="xla_cpu",
        precision="float32",
        mesh={"expert": expert, "model": model},
        rules=RULES,
        memory_gb=1,
        peak_tflops=1,
        share_of_peak=0.1,
    )


@pytest.fixture(scope="module", autouse=True)
def eight_devices():
    """First of all: autograd counts the devices once, at the first backward pass."""
    with pytest.MonkeyPatch.context() as patch:  # not for a TPU's compiler in another module
        # What XLA makes of a program is tested, not LLVM, which takes most of the time.
        patch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0", prepend=" ")
        xla.start(hardware(2, 4))
        yield


@pytest.fixture(autouse=True)
def one_source(monkeypatch):
    monkeypatch.setattr(fit, "code_fingerprint", lambda: "toy")


def config(mesh=None, *, steps=20, **changes):
    """A model whose every axis eight devices can split; on one CPU without a mesh."""
    made = toy.config(steps, **changes)
    return replace(
        made,
        model=replace(made.model, dispatcher="capacity", num_experts=8, num_heads=8, d_model=32),
        training=replace(made.training, batch_size=8, tokens=steps * 8 * 16, log_every=1),
        **({"hardware": hardware(*mesh)} if mesh else {}),
    )


def run(path, config):
    resources = ON_XLA if config.hardware.is_xla else toy.RESOURCES
    return toy.train(config, toy.prepared(), toy.folder(path), resources)


def rows(path):
    with (path / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def weights(path):
    return load_file(sorted((path / "checkpoints").iterdir())[-1] / "model.safetensors")


def column(path, name):
    return [float(row[name]) for row in rows(path) if row[name]]


def assert_same_run(one, other):
    for name in ("loss", "grad_norm", "held_out/mean", "load/1/3", "dropped/1"):
        assert column(one, name) == pytest.approx(column(other, name), abs=1e-5), name


@pytest.fixture(scope="module")
def on_one_cpu(tmp_path_factory):
    path = tmp_path_factory.mktemp("cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "code_fingerprint", lambda: "toy")
        run(path / "adafactor", config(optimizer=AdafactorConfig()))
        run(path / "adamw", config(optimizer=AdamWConfig()))
    return path


@pytest.fixture(scope="module")
def on_mesh(tmp_path_factory):
    """The run on each mesh, trained when it is first asked for: compiling takes most of it."""

    @cache
    def trained(mesh):
        path = tmp_path_factory.mktemp("mesh")
        result = run(path, config(mesh, optimizer=AdafactorConfig()))
        return Trained(path, result.model)

    return trained


class Trained(NamedTuple):
    path: Path
    model: Glam


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_twenty_steps_are_those_of_one_cpu(on_mesh, on_one_cpu, mesh):
    path, model = on_mesh(mesh)
    assert_same_run(path, on_one_cpu / "adafactor")
    expected, found = weights(on_one_cpu / "adafactor"), weights(path)
    for name, weight in found.items():
        # The softmax does not see a bias that all distances share; buckets beyond 16 are not met.
        met = slice(0, 16) if name.endswith("bias_NR") else slice(None)
        torch.testing.assert_close(weight[..., met], expected[name][..., met], atol=1e-5, rtol=0)
    assert_split_by_the_table(model, hardware(*mesh))


def test_after_the_first_steps_nothing_is_compiled(tmp_path, monkeypatch):
    """Through log rows, evaluations and checkpoints."""
    seen = []
    end = xla.Steps.on_train_batch_end

    def on_train_batch_end(self, *args):
        end(self, *args)
        seen.append(self.compiled[-1])

    monkeypatch.setattr(xla.Steps, "on_train_batch_end", on_train_batch_end)
    # Nor do variables of Slurm and a checkpoint of Lightning's own, left over, change anything.
    names = {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "glam", "SLURM_JOB_ID": "7"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    (toy.folder(tmp_path).path / "hpc_ckpt_1.ckpt").write_bytes(b"of Lightning's")
    made = config((2, 4), steps=24, points=6)
    run(tmp_path, replace(made, training=replace(made.training, checkpoint_minutes=1e-9)))
    assert len(seen) == 24
    assert seen[-1] == seen[8], str(seen)


def assert_split_by_the_table(model, hardware):
    import torch_xla

    for name, parameter in model.named_parameters():
        told = torch_xla._XLAC._get_xla_sharding_spec(parameter.data)
        axes = partition(name.rpartition("_")[2], hardware)
        parts = [hardware.mesh[axis] if axis else 1 for axis in axes]
        if max(parts) == 1:
            assert told == "{replicated}", name
        else:
            assert told.startswith("{devices=[" + ",".join(map(str, parts))), (name, told)


@pytest.mark.parametrize(
    ("scan", "rematerialize", "pieces"), [(False, True, 1), (True, False, 4), (True, True, 4)]
)
def test_neither_a_loop_over_layers_nor_pieces_of_the_loss_nor_what_is_made_again_shows(
    tmp_path, on_one_cpu, monkeypatch, scan, rematerialize, pieces
):
    made = config((2, 4), optimizer=AdafactorConfig())
    if pieces == 4:
        monkeypatch.setattr(layout, "LOGITS_ON_DEVICE", 16 * 16)
    assert layout.loss_pieces(made) == pieces
    changes = {"training.rematerialize": rematerialize, "hardware.scan": scan}
    run(tmp_path, changed(made, changes))
    assert_same_run(tmp_path, on_one_cpu / "adafactor")


@pytest.mark.parametrize("scan", [False, True])
def test_biases_move_and_gates_give_slots_as_on_one_cpu_and_nothing_is_compiled_for_it(
    tmp_path, monkeypatch, scan
):
    seen, end = [], xla.Steps.on_train_batch_end

    def on_train_batch_end(self, *args):
        end(self, *args)
        seen.append(self.compiled[-1])

    monkeypatch.setattr(xla.Steps, "on_train_batch_end", on_train_batch_end)
    changes = {
        "model.router.balance_loss": "loss_free",
        "model.router.bias_rate": 0.1,
        "model.priority": "gate",
        "model.capacity_factor": 1.0,
    }
    made = {"steps": 13, "optimizer": AdafactorConfig()}
    run(tmp_path / "one", changed(config(**made), changes))
    on_devices = changed(config((2, 4), **made), {**changes, "hardware.scan": scan})
    run(tmp_path / "mesh", on_devices)
    assert_same_run(tmp_path / "mesh", tmp_path / "one")
    name = "layers.1.ffn.router.bias_of_choice_E"
    torch.testing.assert_close(weights(tmp_path / "mesh")[name], weights(tmp_path / "one")[name])
    assert weights(tmp_path / "mesh")[name].unique().numel() > 1
    assert max(column(tmp_path / "mesh", "dropped/1")) > 0
    assert seen[-1] == seen[8], str(seen)


def test_every_gradient_is_that_of_one_cpu():
    import torch_xla

    model = Glam(config().model)
    tokens = torch.randint(64, (8, 16), generator=torch.Generator().manual_seed(0))
    gradients = {}
    for device in ("cpu", "xla"):
        backend = xla.traced_backend(config((2, 4))) if device == "xla" else ONE_DEVICE
        copy = Glam(config().model, backend=backend)
        copy.load_state_dict(model.state_dict())
        copy.to(device)
        if device == "xla":
            xla.Sharding(hardware(2, 4)).spread(copy)
        output = copy.loss(tokens.to(device), tokens.roll(-1, 1).to(device))
        (output.loss + output.balance_loss).backward()
        if device == "xla":
            torch_xla.sync()  # all in one program; else each gradient is one of its own
        gradients[device] = {name: p.grad.cpu() for name, p in copy.named_parameters()}
    for name, expected in gradients["cpu"].items():
        torch.testing.assert_close(gradients["xla"][name], expected, atol=1e-5, rtol=0)


def test_no_balance_loss_breaks_the_partitioner():
    """All in one program, each in a model of one layer: what they add to the gradients."""
    import torch_xla

    tokens = torch.randint(64, (8, 16), generator=torch.Generator().manual_seed(0))
    made = config((2, 4)).model
    gradients = {"cpu": [], "xla": []}
    for device, found in gradients.items():
        backend = xla.traced_backend(config((2, 4))) if device == "xla" else ONE_DEVICE
        models, total = [], 0
        for balance_loss in ("none", "entropy", "gshard", "z_loss", "loss_free"):
            router = replace(made.router, balance_loss=balance_loss)
            model = Glam(replace(made, num_layers=1, moe_every=1, router=router), backend=backend)
            model.initialize(0)
            model.to(device)
            if device == "xla":
                xla.Sharding(hardware(2, 4)).spread(model)
            output = model.loss(tokens.to(device), tokens.roll(-1, 1).to(device))
            total, models = total + output.loss + output.balance_loss, [*models, model]
        total.backward()
        if device == "xla":
            torch_xla.sync()
        learning = (p for model in models for p in model.parameters() if p.requires_grad)
        found += [p.grad.cpu() for p in learning]
    for here, expected in zip(gradients["xla"], gradients["cpu"], strict=True):
        torch.testing.assert_close(here, expected, atol=1e-5, rtol=0)


def test_a_run_goes_on_on_other_meshes_and_other_engines(tmp_path, on_one_cpu):
    """Begun on 2 x 4 devices, gone on with on one CPU, ended on 4 x 2."""
    changes = {"optimizer": AdamWConfig()}
    break_off(run, tmp_path, config((2, 4), **changes), 7)
    before = weights(tmp_path)
    break_off(run, tmp_path, config(**changes), 13)
    assert not all(torch.equal(before[name], value) for name, value in weights(tmp_path).items())
    run(tmp_path, config((4, 2), **changes))
    assert_same_run(tmp_path, on_one_cpu / "adamw")


def test_a_run_goes_on_in_processes_of_torch_and_comes_back(tmp_path):
    """Begun on 2 x 4 devices, gone on with in four processes under gloo and on one CPU, ended on
    4 x 2. Processes drop no row, so experts have a seat for every one."""

    def roomy(mesh=None):
        made = config(mesh, optimizer=AdafactorConfig())
        return replace(made, model=replace(made.model, capacity_factor=8.0))

    path = tmp_path / "crossing"
    break_off(run, path, roomy((2, 4)), 7)
    in_four = replace(roomy(), hardware=test_fsdp.hardware(4))
    together(4, break_off, test_fsdp.run, path, in_four, 10)
    break_off(run, path, roomy(), 13)
    run(path, roomy((4, 2)))
    run(tmp_path / "one", roomy())
    assert_same_run(path, tmp_path / "one")


def test_a_run_goes_back_to_a_healthy_checkpoint_and_killed_in_it_does_so_again(
    tmp_path, monkeypatch
):
    """Though losses are judged some steps later."""
    seen, end = [], xla.Steps.on_train_batch_end

    def on_train_batch_end(self, trainer, module, *args):
        end(self, trainer, module, *args)
        seen.append((len(module.train_state.watch.rollbacks), self.compiled[-1]))

    monkeypatch.setattr(xla.Steps, "on_train_batch_end", on_train_batch_end)
    poison(monkeypatch, 25)
    made = config((2, 4), steps=40, points=1, optimizer=AdamWConfig(learning_rate=0.02))
    made = replace(made, training=replace(made.training, **RULES_OF_ROLLBACK, log_every=7))
    result = run(tmp_path / "straight", made)
    [rollback] = result.rollbacks
    assert (rollback.step, rollback.restored_step, rollback.last_batch) == (26, 15, 25)
    assert [number for number, _ in seen] == [0] * 28 + [1] * 25
    assert seen[-1][1] == seen[28][1], str(seen)  # the first step after the return compiles
    with monkeypatch.context() as patch:
        patch.setattr(fit, "in_words", None)
        with pytest.raises(TypeError):
            run(tmp_path / "killed", made)
    again = run(tmp_path / "killed", made)
    assert [one.loss for one in again.rollbacks] == [rollback.loss]
    expected = weights(tmp_path / "straight")
    assert all(torch.equal(w, expected[n]) for n, w in weights(tmp_path / "killed").items())


@IN_ONE_WORKER
def test_a_finished_run_is_loaded_bit_for_bit_on_another_mesh(on_mesh):
    path = on_mesh((2, 4)).path
    result = run(path, config((4, 2), optimizer=AdafactorConfig()))
    assert_split_by_the_table(result.model, hardware(4, 2))
    for name, parameter in result.model.named_parameters():
        assert torch.equal(parameter.cpu(), weights(path)[name])


def test_a_mesh_of_other_devices_is_refused():
    other = dataclasses.replace(hardware(4, 2), mesh={"expert": 4, "model": 4})
    with pytest.raises(UserError, match="is of 16 devices and XLA finds 8"):
        xla.XlaEngine(RunConfig(hardware=other))
