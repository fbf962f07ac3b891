"""The table, the page and the fit of a study, as an artifact of its group."""

import json

import pytest

from glam.config import LoggerConfig, StudyConfig
from glam.reporting import write_study
from glam.runs.study_folder import StudyFolder
from glam.tracking.study import track_study


@pytest.fixture
def study(tmp_path):
    """Two cells that are done, and a law."""
    folder = StudyFolder(tmp_path / "runs" / "studies" / "experts+seed")
    cells = {f"tiny-{e}e": {"model.num_experts": e} for e in (1, 8)}
    for number, name in enumerate(cells):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        summary = {"status": "done", "loss": {"mean": 4.0 - number / 10}}
        (run / "summary.json").write_text(json.dumps(summary))
    folder.record(["model.num_experts"], StudyConfig(), cells, machine={})
    write_study(folder)
    law = {"constants": {"e": {"value": 1.7, "fitted": True}, "x": {"value": 0, "fitted": False}}}
    (folder.path / "law.json").write_text(json.dumps(law))
    return folder


@pytest.mark.slow
def test_a_study_is_an_entry_of_its_group_with_its_files(study, recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    track_study(LoggerConfig(mode="offline"), study)
    records = recorded(study.path)
    [run] = [record["run"] for record in records if record["type"] == "run"]
    assert (run["run_group"], run["job_type"]) == ("experts+seed", "study")
    by_name = {r["artifact"]["name"]: r["artifact"] for r in records if r["type"] == "artifact"}
    kept = json.dumps(by_name["experts-seed"])
    for name in ("study.html", "study.csv", "study.tex", "law.json", "loss_by_experts.pdf"):
        assert name in kept
    summary = {}
    for record in records:
        summary |= record.get("summary", {}).get("update", {})
    assert summary["law/e"] == 1.7
    assert "law/x" not in summary
    [table] = study.path.glob("wandb/offline-run-*/files/media/table/study/table_*.json")
    told = json.loads(table.read_text())
    column = told["columns"].index("loss/mean")
    assert [row[column] for row in told["data"]] == [4.0, 3.9]


@pytest.mark.parametrize("name", ["csv", "none"])
def test_without_wandb_a_study_is_its_folder_alone(study, name):
    track_study(LoggerConfig(name=name), study)
    assert not (study.path / "wandb").exists()
