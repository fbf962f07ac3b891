import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import load_file
from torch.nn.utils import parameters_to_vector

from glam.config import AdafactorConfig, AdamWConfig, ModelConfig, PaperScheduleConfig, RouterConfig
from glam.errors import STOPPING, Stopped, UserError, stopped_by
from glam.machine.energy_by_phase import EnergyByPhase
from glam.model import Glam
from glam.runs.identity import PACKAGE
from glam.runs.initial import with_initial
from glam.runs.manifest import digest
from glam.training.module import TrainingModule, UpdatesInBackward
from glam.training.optimizers import Adafactor

TIMES = ("train_seconds", "tokens_per_second", "joules")


def run(path, config=None, **others):
    return toy.train(
        config or toy.config(), toy.prepared(), toy.folder(path), toy.RESOURCES, **others
    )


def rows(path):
    with (path / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def untimed(path):
    """What has to be equal between two runs of the same configuration."""
    return [{name: v for name, v in row.items() if name not in TIMES} for row in rows(path)]


def checkpoints(path):
    return sorted(p.name for p in (path / "checkpoints").iterdir())


def final_weights(path):
    return load_file(path / "checkpoints" / checkpoints(path)[-1] / "model.safetensors")


def final_state(path):
    file = path / "checkpoints" / checkpoints(path)[-1] / "state.pt"
    return torch.load(file, weights_only=True)


def optimizer_state(path):
    """Tensors, and numbers as tensors, by the parameter's number and their name."""
    plain = final_state(path)["optimizer_states"][0]["state"]
    numbers = {f"{i}/{name}": value for i, of in plain.items() for name, value in of.items()}
    file = path / "checkpoints" / checkpoints(path)[-1] / "optimizer.safetensors"
    return load_file(file) | {name: torch.as_tensor(value) for name, value in numbers.items()}


def assert_same_end(one, other):
    assert untimed(one) == untimed(other)
    assert checkpoints(one)[-1] == checkpoints(other)[-1]
    mine, theirs = final_weights(one), final_weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    left, right = (optimizer_state(path) for path in (one, other))
    assert left.keys() == right.keys() != set()
    assert all(torch.equal(left[name], right[name]) for name in left)


class BrokenOffError(Exception):
    pass


@pytest.fixture
def stop_at(monkeypatch):
    """Break off, as a crash would, before the step of that number."""

    once = TrainingModule.training_step

    def arrange(step):
        def training_step(self, batch, batch_idx):
            if self.train_state.step == step:
                raise BrokenOffError
            return once(self, batch, batch_idx)

        monkeypatch.setattr(TrainingModule, "training_step", training_step)

    return arrange


def test_a_run_learns_and_leaves_metrics_and_a_checkpoint(tmp_path):
    result = run(tmp_path, toy.config(60))
    assert (result.status, result.tokens, result.skipped_steps) == ("done", 60 * 32, 0)
    assert math.isclose(result.tokens_per_second, result.tokens / result.train_seconds)
    first, last = rows(tmp_path)[0], rows(tmp_path)[-1]
    assert int(last["step"]) == 60
    assert float(last["loss"]) < float(first["loss"]) - 0.3
    assert checkpoints(tmp_path) == ["step-00000060"]


def test_rows_come_every_log_every_steps_and_evaluations_at_their_points(tmp_path):
    run(tmp_path, toy.config(12))
    found = {int(row["step"]): row for row in rows(tmp_path)}
    assert sorted(found) == [4, 5, 8, 10, 12]
    assert [step for step in sorted(found) if found[step]["held_out/mean"]] == [4, 8, 12]
    row = found[8]
    domains = [float(row[f"held_out/{domain}"]) for domain in toy.SOURCES]
    assert float(row["held_out/mean"]) == pytest.approx(sum(domains) / 2)
    assert sum(float(row[f"load/1/{e}"]) for e in range(4)) == pytest.approx(1)
    assert float(row["dropped/1"]) == 0
    assert found[10]["load/1/0"] == ""


def test_the_loss_is_the_mean_over_sources_weighted_by_their_tokens(tmp_path):
    config = toy.config(5, points=0)
    run(tmp_path, config)
    (row,) = rows(tmp_path)
    stream = toy.prepared()
    from glam.data import TrainStream

    batches = [TrainStream(stream, 16, 2, 0).batch(i) for i in range(5)]
    counts = [sum(int((b.sources == s).sum()) for b in batches) for s in range(2)]
    weighted = sum(n * float(row[f"loss/{s}"]) for n, s in zip(counts, toy.SOURCES, strict=True))
    assert float(row["loss"]) == pytest.approx(weighted / sum(counts))


def test_the_dense_twin_trains_and_logs_no_load(tmp_path):
    config = toy.config(6)
    config.model = ModelConfig(
        vocab_size=64, num_layers=2, d_model=16, d_ff=32, num_heads=2, num_experts=1
    )
    result = run(tmp_path, config)
    assert result.load == []
    assert not [name for name in rows(tmp_path)[0] if name.startswith("load/")]


def test_load_is_told_over_the_mean(tmp_path):
    (layer,) = run(tmp_path).load
    assert layer["layer"] == 1
    assert 0 <= layer["idlest"] <= 1 <= layer["busiest"] <= 4
    assert layer["dropped"] == 0


def test_the_same_run_twice_is_the_same_bit_for_bit(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b")
    assert_same_end(tmp_path / "a", tmp_path / "b")


def test_evaluating_more_often_changes_no_weight(tmp_path):
    run(tmp_path / "a", toy.config(12, points=0))
    run(tmp_path / "b", toy.config(12, points=12))
    mine, theirs = final_weights(tmp_path / "a"), final_weights(tmp_path / "b")
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
@pytest.mark.parametrize("step", [1, 7])
def test_a_run_broken_off_ends_as_if_it_had_not_been(tmp_path, stop_at, optimizer, step):
    others = {"schedule": PaperScheduleConfig(hold_steps=4)}
    if optimizer == "adafactor":
        others["optimizer"] = AdafactorConfig()
    config = toy.config(12, every_step=True, **others)
    config.model.router.second_policy = "random"  # draws from the generator
    run(tmp_path / "straight", config)
    stop_at(step)
    with pytest.raises(BrokenOffError):
        run(tmp_path / "broken", config)
    stop_at(-1)
    run(tmp_path / "broken", config)
    assert_same_end(tmp_path / "straight", tmp_path / "broken")


def test_a_run_between_two_checkpoints_goes_back_and_writes_its_rows_again(tmp_path, stop_at):
    config = toy.config(12)
    run(tmp_path / "straight", config)
    # Saved at step 6 by a stop that was asked for, then broken off at 11.
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "broken", config, step=6)
    stop_at(11)
    with pytest.raises(BrokenOffError):
        run(tmp_path / "broken", config)
    assert [int(row["step"]) for row in rows(tmp_path / "broken")] == [4, 5, 8, 10]
    stop_at(-1)
    run(tmp_path / "broken", config)
    assert_same_end(tmp_path / "straight", tmp_path / "broken")


def interrupted(path, config, *, step, number=signal.SIGINT):
    once = TrainingModule.training_step

    def training_step(self, batch, batch_idx):
        if self.train_state.step == step - 1:
            os.kill(os.getpid(), number)
        return once(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", training_step)
        return run(path, config)


@pytest.mark.parametrize("number", [signal.SIGINT, *STOPPING])
def test_a_signal_saves_first_and_says_how_to_go_on(tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        interrupted(tmp_path, toy.config(12), step=7, number=number)
    assert checkpoints(tmp_path) == ["step-00000007"]
    assert str(stopped.value) == "stopped at step 7; the same command resumes from step 7"
    assert stopped_by(stopped.value) == number
    assert signal.getsignal(number) == before


def test_what_is_asked_twice_is_saved_all_the_same(tmp_path):
    """Slurm sends SIGTERM to a job's launcher, which passes it on, and to its processes."""
    twice = signal.SIGTERM

    def training_step(self, batch, batch_idx, once=TrainingModule.training_step):
        if self.train_state.step == 3:
            os.kill(os.getpid(), twice)
            os.kill(os.getpid(), twice)
        return once(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", training_step)
        with pytest.raises(Stopped):
            run(tmp_path, toy.config(12))
    assert checkpoints(tmp_path) == ["step-00000004"]


def test_a_closed_terminal_stops_no_run_that_nohup_started(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert interrupted(tmp_path, toy.config(5), step=3, number=signal.SIGHUP).status == "done"
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# As a shell inside a job has them: Lightning would take its cluster from the first that it knows.
ELSEWHERE = {
    "SLURM": {
        **{"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "glam", "SLURM_JOB_ID": "7"},
        **{"SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NODEID": "1"},
        **{"SLURM_NTASKS_PER_NODE": "4", "SLURM_NODELIST": "far[1-2]"},
    },
    "LSF": {
        **{"LSB_JOBID": "7", "LSB_DJOB_RANKFILE": "/nowhere", "JSM_NAMESPACE_SIZE": "4"},
        **{"JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_RANK": "1"},
    },
    "MPI": {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "PMI_RANK": "1"},
    "torchrun and Kubeflow": {
        **{"RANK": "3", "LOCAL_RANK": "3", "GROUP_RANK": "1", "NODE_RANK": "1"},
        **{"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "far", "MASTER_PORT": "1"},
        **{"KUBERNETES_PORT": "tcp://far:1"},
    },
}


@pytest.mark.parametrize("names", [*ELSEWHERE, "all"])
def test_variables_of_a_cluster_left_over_from_elsewhere_change_nothing(
    tmp_path, monkeypatch, names
):
    straight = run(tmp_path / "straight", toy.config(6))
    left_over = ELSEWHERE.values() if names == "all" else [ELSEWHERE[names]]
    for name, value in [pair for one in left_over for pair in one.items()]:
        monkeypatch.setenv(name, value)
    # What an older version of ours left, by Lightning's own requeueing: training from there would
    # begin to count anew.
    folder = toy.folder(tmp_path / "here").path
    (folder / "hpc_ckpt_1.ckpt").write_bytes(b"of Lightning's")
    with pytest.raises(Stopped):  # it would call `scontrol requeue`
        interrupted(folder, toy.config(6), step=3, number=signal.SIGUSR1)
    assert sorted(p.name for p in folder.glob("hpc*")) == ["hpc_ckpt_1.ckpt"]
    here = run(folder, toy.config(6))
    assert here.tokens == straight.tokens
    assert_same_end(tmp_path / "straight", folder)


def test_seconds_and_joules_add_up_over_segments(tmp_path):
    class Meter:
        """Ten joules every time that it is read."""

        shown = 0.0

        def start(self):
            pass

        def joules(self):
            self.shown += 10
            return self.shown

    def spent() -> EnergyByPhase:
        return EnergyByPhase(Meter())

    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, toy.config(12), step=6)
    first = final_state(tmp_path)["training"]["train_seconds"]
    assert first > 0
    whole = spent()
    result = run(tmp_path, energy_by_phase=whole)
    assert result.train_seconds > first
    saved = final_state(tmp_path)["training"]["joules"]
    assert saved["training"] > 0  # the first segment had no meter
    assert saved["evaluation"] > 0
    assert saved["preparation"] == 0
    reloaded = spent()
    again = run(tmp_path, energy_by_phase=reloaded)
    assert again.train_seconds == result.train_seconds
    assert reloaded.joules == saved


def test_a_finished_run_is_loaded_and_not_trained(tmp_path, stop_at):
    first = run(tmp_path)
    stop_at(0)
    again = run(tmp_path)
    unlike = {"model": None, "joules": None}
    assert again._replace(**unlike) == first._replace(**unlike)
    assert again.status == "done"
    for mine, theirs in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_resume_by_other_data_or_code_is_refused(tmp_path, monkeypatch):
    run(tmp_path)
    with pytest.raises(UserError, match=r"was started with other data.*rerun=true"):
        toy.train(toy.config(), toy.prepared("other"), toy.folder(tmp_path), toy.RESOURCES)
    monkeypatch.setattr("glam.training.fit.code_fingerprint", lambda: "newer")
    with pytest.raises(UserError, match="was started with other code"):
        run(tmp_path)


def test_a_resume_across_a_changed_kernel_is_refused(tmp_path, monkeypatch):
    def code(name, addition=""):
        shutil.copytree(PACKAGE, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        with (tmp_path / name / "kernels" / "kernels.c").open("a") as file:
            file.write(addition)
        monkeypatch.setattr("glam.runs.identity.PACKAGE", tmp_path / name)

    run(tmp_path / "run", toy.config(2))
    code("same")
    assert run(tmp_path / "run", toy.config(2)).status == "done"
    code("changed", "static int another;\n")
    with pytest.raises(UserError, match="was started with other code"):
        run(tmp_path / "run", toy.config(2))


def on_another_machine(path, **changes):
    """As if the run's checkpoints had been made there."""
    for manifest in path.glob("checkpoints/step-*/manifest.json"):
        found = json.loads(manifest.read_text())
        found["machine"] |= changes
        manifest.write_text(json.dumps(found | {"digest": digest(found)}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"processor": "EPYC"}, "its checkpoint is from EPYC ("),
        ({"kernels": "none of ours"}, "(none of ours)"),
        ({"instruction_sets": ["mmx"]}, "with mmx"),
    ],
)
def test_a_resume_on_another_machine_says_so_once_and_goes_on(tmp_path, caplog, changes, named):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, toy.config(12), step=6)
    on_another_machine(tmp_path, **changes)
    caplog.clear()
    result = run(tmp_path, toy.config(12))
    [said] = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert f"{tmp_path.name} continues on {result.machine['processor']}" in said
    assert named in said
    assert result.status == "done"
    [earlier] = result.machine["earlier"]
    assert changes.items() <= earlier.items()
    # It is the manifest's too, and where nothing changes any more nothing is said.
    caplog.clear()
    assert run(tmp_path, toy.config(12)).machine == result.machine
    assert caplog.records == []


def test_a_resume_of_a_checkpoint_that_names_no_machine_says_nothing(tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, toy.config(12), step=6)
    [manifest] = tmp_path.glob("checkpoints/step-*/manifest.json")
    found = json.loads(manifest.read_text())
    machine = found.pop("machine")
    manifest.write_text(json.dumps(found | {"digest": digest(found)}))
    caplog.clear()
    caplog.set_level("INFO")
    assert run(tmp_path, toy.config(12)).machine == machine
    assert [line.getMessage() for line in caplog.records] == ["resuming from step 6"]


def poisoned(monkeypatch, steps, value):
    """Gradients of these steps hold one bad number, in the last parameter alone."""
    once = TrainingModule.on_after_backward

    def on_after_backward(self):
        once(self)
        if self.train_state.step in steps:
            list(self.model.parameters())[-1].grad.view(-1)[0] = value

    monkeypatch.setattr(TrainingModule, "on_after_backward", on_after_backward)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_gradient_skips_the_whole_update_and_is_counted(tmp_path, monkeypatch, value):
    poisoned(monkeypatch, {4}, value)
    seen = {}
    account = TrainingModule._account

    def snapshot(self, *args, **named):
        optimizer = self.optimizers(use_pl_optimizer=False)
        state = [v.clone() for s in optimizer.state.values() for v in s.values()]
        seen[self.train_state.step] = [*(p.detach().clone() for p in self.parameters()), *state]
        account(self, *args, **named)

    monkeypatch.setattr(TrainingModule, "_account", snapshot)
    result = run(tmp_path, toy.config(8))
    assert (result.status, result.skipped_steps) == ("done", 1)
    assert all(torch.equal(a, b) for a, b in zip(seen[3], seen[4], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(seen[4], seen[5], strict=True))
    assert all(math.isfinite(float(row["loss"])) for row in rows(tmp_path))
    assert [row["skipped"] for row in rows(tmp_path)] == ["0", "1", "1"]


@pytest.mark.parametrize("rematerialize", [False, True])
def test_updates_in_the_backward_pass_train_the_same_model(tmp_path, rematerialize):
    def trained(name: str, *, early: bool):
        config = toy.config(12)
        training = replace(config.training, rematerialize=rematerialize, update_in_backward=early)
        config = replace(config, optimizer=AdafactorConfig(), training=training)
        (tmp_path / name).mkdir()
        return run(tmp_path / name, config), rows(tmp_path / name)

    late, late_rows = trained("late", early=False)
    early, early_rows = trained("early", early=True)
    for mine, theirs in zip(early.model.parameters(), late.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(early_rows, late_rows, strict=True):
        assert mine["loss"] == theirs["loss"]
        assert float(mine["grad_norm"]) == pytest.approx(float(theirs["grad_norm"]), rel=1e-5)


def test_gradients_of_parts_add_up_to_those_of_the_whole_step(tmp_path):
    """Up to the balance loss, of which each part has its own."""
    model = replace(toy.config().model, router=RouterConfig(balance_loss="none"))

    def trained(name: str, parts: int):
        config = toy.config(12, every_step=True)
        training = replace(config.training, accumulate=parts, log_every=1)
        (tmp_path / name).mkdir()
        result = run(tmp_path / name, replace(config, model=model, training=training))
        return result, rows(tmp_path / name)

    whole, whole_rows = trained("whole", 1)
    parts, parts_rows = trained("parts", 2)
    assert len(parts_rows) == 12
    for mine, theirs in zip(parts_rows, whole_rows, strict=True):
        for name in ("loss", "loss/letters", "grad_norm", "balance_loss"):
            if theirs[name]:
                assert float(mine[name]) == pytest.approx(float(theirs[name]), rel=1e-4), name
    mine, theirs = (parameters_to_vector(each.model.parameters()) for each in (parts, whole))
    assert (mine - theirs).norm() < 1e-3 * theirs.norm()
    assert parts.load == [pytest.approx(one, rel=1e-5) for one in whole.load]


def test_no_gradient_outlives_its_update():
    model = Glam(toy.config().model)
    updates = UpdatesInBackward(model, Adafactor(list(model.parameters()), AdafactorConfig()))
    tokens = torch.randint(0, toy.config().model.vocab_size, (2, 8))
    before = [p.detach().clone() for p in model.parameters()]
    norm = updates.run(lambda: model.loss(tokens, tokens).loss.backward(), 0.01)
    assert 0 < norm < math.inf
    assert all(p.grad is None for p in model.parameters())
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2


def test_a_gradient_that_is_not_finite_moves_no_weight_from_there_on():
    model = Glam(toy.config().model)
    updates = UpdatesInBackward(model, Adafactor(list(model.parameters()), AdafactorConfig()))
    tokens = torch.randint(0, toy.config().model.vocab_size, (2, 8))
    before = [p.detach().clone() for p in model.parameters()]
    norm = updates.run(lambda: (model.loss(tokens, tokens).loss * math.inf).backward(), 0.01)
    assert norm == math.inf
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_too_many_skipped_in_a_row_end_the_run_as_diverged(tmp_path, monkeypatch):
    poisoned(monkeypatch, {2, 3, 5, 6, 7}, math.nan)
    result = run(tmp_path, toy.config(20))
    assert (result.status, result.skipped_steps, result.tokens) == ("diverged", 5, 8 * 32)
    assert all(p.isfinite().all() for p in result.model.parameters())
    assert checkpoints(tmp_path) == ["step-00000008"]
    assert rows(tmp_path)[-1]["step"] == "8"
    assert run(tmp_path, toy.config(20)).status == "diverged"  # which is final


def test_nothing_of_lightning_is_said_or_left_behind(tmp_path, capfd):
    run(tmp_path)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert [line.split(":")[0] for line in captured.err.strip().splitlines()] == ["train"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "metrics.csv"]


def test_a_run_in_a_thread_needs_no_signals(tmp_path):
    results = []
    worker = threading.Thread(target=lambda: results.append(run(tmp_path)))
    worker.start()
    worker.join()
    assert results[0].status == "done"


def start(path, steps, *options):
    script = Path(toy.__file__)
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    command = [sys.executable, str(script), str(path), str(steps), *options]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def kill_when(process, happened):
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_killed_twice_once_while_saving_a_run_ends_bit_for_bit_as_undisturbed(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    process = start(straight, 40)
    out, err = process.communicate()
    assert out.strip() == "done", err
    saves = killed / "checkpoints"
    process = start(killed, 40)
    kill_when(process, lambda: any(int(p.name[5:]) >= 9 for p in saves.glob("step-*")))
    process = start(killed, 40, "slow")
    half = ".step-*.part/manifest.json"
    kill_when(process, lambda: any(int(p.parent.name[6:14]) >= 17 for p in saves.glob(half)))
    assert list(saves.glob(".step-*.part"))  # it was caught at it
    steps = [json.loads(p.read_text())["step"] for p in saves.glob("step-*/manifest.json")]
    assert max(steps) < 40
    out, err = start(killed, 40).communicate()
    assert out.strip() == "done", err
    assert not list(saves.glob(".step-*.part"))
    assert_same_end(straight, killed)
    assert final_state(killed)["training"]["train_seconds"] > 0


def test_a_run_begins_with_the_weights_it_names_and_needs_them_no_more(tmp_path):
    source = toy.folder(tmp_path / "source-ab12")
    run(source.path)
    source.write_config(toy.config())
    (source.path / "tokenizer.vocab").write_text("a\t0\n")
    source.write_json("summary.json", {"status": "done"})
    before = final_weights(source.path)

    config = toy.config(optimizer=AdamWConfig(learning_rate=1e-30))  # which moves no weight
    config = replace(config, model=replace(config.model, init_from=str(source.path)))
    run(tmp_path / "begun", with_initial(config))
    after = final_weights(tmp_path / "begun")
    assert all(torch.equal(after[name], value) for name, value in before.items())

    shutil.rmtree(source.path)
    again = run(tmp_path / "begun", replace(config, seed=0)).model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in before.items())
