"""What a summary records of the machine, and what a study's page makes of it."""

import csv
from contextlib import nullcontext

import pytest
import toy

from glam import kernels
from glam.errors import JobFailedError
from glam.evaluation import evaluate_domains
from glam.machine.energy_by_phase import EnergyByPhase
from glam.reporting import write_study
from glam.runs.machine import machine_of
from glam.runs.study_folder import StudyFolder
from glam.tasks.summary import summarize
from glam.tasks.train import _Energy, _judge, _raise_if_diverged

KEY = "seed"


@pytest.fixture
def study(tmp_path):
    """A study of toy runs, each trained with the kernels or without."""

    def trained(*with_kernels: bool) -> StudyFolder:
        runs = [train(tmp_path, seed, kernel) for seed, kernel in enumerate(with_kernels)]
        study = StudyFolder(tmp_path / "studies" / "seeds")
        values = {run.path.name: {KEY: seed} for seed, run in enumerate(runs)}
        study.record([KEY], toy.config().study, values, {})
        return study

    return trained


def train(home, seed, kernel):
    config, prepared = toy.config(6, seed=seed), toy.prepared()
    run = toy.folder(home / f"toy-{seed}")
    with nullcontext() if kernel else kernels.switched_off():
        result = toy.train(config, prepared, run, toy.RESOURCES)
        domains = evaluate_domains(
            result.model, prepared, sequence_length=16, batch_size=2, max_tokens=64
        )
    summary = summarize(config, run, toy.RESOURCES, result, domains, prepared.fingerprint)
    summary["energy"] = {"joules": 1.0}
    run.write_config(config)
    run.write_json("summary.json", summary)
    return run


def judged(tmp_path, monkeypatch, result):
    """What `task=train` makes of a trained model."""
    config, prepared = toy.config(6), toy.prepared()
    monkeypatch.setattr("glam.tasks.train.held_out_losses", held_out)
    monkeypatch.setattr("glam.tasks.train.samples", lambda *_: [])
    energy = _Energy(EnergyByPhase(), "none")
    return _judge(config, toy.folder(tmp_path), prepared, result, energy)


def held_out(config, model, prepared, processes):
    return evaluate_domains(model, prepared, sequence_length=16, batch_size=2, max_tokens=64)


def test_weights_that_are_useless_on_held_out_text_have_diverged(tmp_path, monkeypatch):
    """A run of an older version, say, which did not look at its last weights."""
    config, prepared = toy.config(6), toy.prepared()
    result = toy.train(config, prepared, toy.folder(tmp_path), toy.RESOURCES)
    assert judged(tmp_path, monkeypatch, result)[0] == result
    result.model.embedding.w_VM.data.fill_(float("nan"))
    diverged, domains = judged(tmp_path / "nan", monkeypatch, result)
    assert (result.status, diverged.status, domains) == ("done", "diverged", {})
    summary = summarize(
        config, toy.folder(tmp_path), toy.RESOURCES, diverged, domains, prepared.fingerprint
    )
    assert (summary["status"], summary["loss"], summary["rollbacks"]) == ("diverged", {}, [])
    with pytest.raises(JobFailedError, match="diverged: its last weights give NaN or Inf"):
        _raise_if_diverged(config, toy.folder(tmp_path), summary)


def table(study):
    with (study.path / "study.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.usefixtures("kernels_here")
def test_a_study_of_runs_with_and_without_kernels_says_so_on_its_page_and_in_its_table(study):
    found = study(True, False)
    on, off = (row["summary"]["machine"] for row in found.rows())
    assert on == machine_of(toy.RESOURCES)
    assert off["kernels"] == "torch's operators" != on["kernels"]
    page = write_study(found).read_text(encoding="utf-8")
    assert "These runs were computed on unlike processors or kernels" in page
    assert '<th scope="col">Machine</th>' in page
    assert [row["kernels"] for row in table(found)] == [on["kernels"], off["kernels"]]
    for row in table(found):
        assert row["processor"] == on["processor"]
        assert row["instruction_sets"] == " ".join(on["instruction_sets"])


def test_a_study_of_like_runs_records_the_machine_and_says_nothing(study):
    found = study(True, True)
    page = write_study(found).read_text(encoding="utf-8")
    assert "unlike" not in page
    assert "Machine" not in page
    assert {row["kernels"] for row in table(found)} == {machine_of(toy.RESOURCES)["kernels"]}
