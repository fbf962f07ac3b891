"""What is laid out on W&B, as its own library would send it; nothing is sent."""

import json
from types import SimpleNamespace

import pytest

from glam.config import LoggerConfig, StudyConfig
from glam.runs.folder import RunFolder
from glam.runs.study_folder import StudyFolder
from glam.tracking.run import load_figures
from glam.tracking.workspace import publish, report, sections, subject_of, workspace
from glam.training.metrics import columns

pytest.importorskip("wandb_workspaces")
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

HEADER = columns(["web"], ["news", "tales"], [1, 3], 4)


@pytest.fixture
def study(tmp_path):
    """Two finished runs of four experts in layers 1 and 3."""
    folder = StudyFolder(tmp_path / "studies" / "experts+data")
    cells = {
        f"tiny-{number:010x}": {"model.num_experts": 4, "data": data, "seed": number}
        for number, data in enumerate(("filtered", "unfiltered"))
    }
    for name in cells:
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(",".join(HEADER) + "\n")
        summary = {"status": "done", "loss": {"mean": 4.0, "news": 3.5, "tales": 4.5}}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    folder.record(["model.num_experts", "data", "seed"], StudyConfig(), cells, machine={})
    return folder


def spec(made):
    return made._to_model().model_dump(by_alias=True, exclude_none=True)


def runset(study):
    made = spec(workspace(subject_of(study), "me", "glam"))
    [found] = made["spec"]["section"]["runSets"]
    return found


def panels(subject):
    """The configuration of every panel, by section."""
    return {
        title: [spec(panel)["config"] for panel in found]
        for title, found in sections(subject).items()
    }


def test_a_study_shows_its_runs_and_no_others_grouped_by_what_is_swept(study):
    found = runset(study)
    [only] = found["filters"]["filters"]
    assert (only["op"], only["value"]) == ("IN", ["0000000000", "0000000001"])
    assert only["key"] == {"section": "run", "name": "name"}  # which is a run's id
    grouping = [(key["section"], key["name"]) for key in found["grouping"]]
    assert grouping == [
        ("config", "model.value.num_experts"),
        ("config", "data.value.filter.name"),  # what the choice of the group is called
    ]


def test_the_best_run_stands_first_and_what_it_cost_beside_it(study):
    found = runset(study)
    [key] = found["sort"]["keys"]
    assert (key["key"]["name"], key["ascending"]) == ("final/loss/mean", True)
    pinned = found["runFeed"]["columnOrder"]
    for name in ("final/loss/mean", "final/tokens", "final/flops", "final/energy/joules"):
        assert f"summary:{name}" in pinned


def test_a_study_is_laid_out_from_its_findings_to_its_energy(study):
    found = panels(subject_of(study))
    assert list(found) == [
        *("Study", "Loss by domain", "Loss by cost", "Experts", "Throughput and energy"),
    ]
    domains = [panel["metrics"] for panel in found["Loss by domain"]]
    assert domains == [["held_out/mean"], ["held_out/news"], ["held_out/tales"]]
    assert {panel["xAxis"] for panel in found["Loss by domain"]} == {"tokens"}
    costs = [panel["xAxis"] for panel in found["Loss by cost"]]
    assert costs == ["tokens", "flops", "train_seconds", "joules"]
    [maps] = [panel for panel in found["Experts"] if "mediaKeys" in panel]
    assert maps["mediaKeys"] == ["load_map/1", "load_map/3", "domain_map/1", "domain_map/3"]


def test_every_curve_that_is_laid_out_is_logged(study):
    row = {name: 0.25 for name in HEADER if name.startswith("load/")}
    logged = {*HEADER, *load_figures(row), "flops"}
    for found in panels(subject_of(study)).values():
        for panel in found:
            if "xAxis" in panel and "metrics" in panel:
                assert {panel["xAxis"], *panel["metrics"]} <= logged


def test_a_run_alone_is_compared_with_nothing(study):
    subject = subject_of(RunFolder(study.runs[0]))
    assert "Study" not in panels(subject)
    assert subject.runs == ["0000000000"]
    assert subject.swept == []


def test_a_dense_run_has_no_section_of_experts(study):
    header = columns(["web"], ["news"], [], 1)
    (study.runs[0] / "metrics.csv").write_text(",".join(header) + "\n")
    assert "Experts" not in panels(subject_of(RunFolder(study.runs[0])))


def test_the_report_has_the_same_panels_between_words(study):
    subject = subject_of(study)
    blocks = spec(report(subject, "me", "glam"))["spec"]["blocks"]
    titles = [b["children"][0]["text"] for b in blocks if b["type"] == "heading"]
    assert titles == list(sections(subject))
    grids = [b["metadata"] for b in blocks if b["type"] == "panel-grid"]
    counts = [len(grid["panelBankSectionConfig"]["panels"]) for grid in grids]
    assert counts == [len(found) for found in sections(subject).values()]
    for grid in grids:
        [found] = grid["runSets"]
        assert found["filters"]["filters"][0]["value"] == subject.runs


def test_what_is_saved_is_said(study, monkeypatch, capsys):
    sent = []

    def execute(query, variables):
        sent.append(variables)
        view = {"id": f"dmlldw{len(sent)}", "name": variables["name"], "spec": variables["spec"]}
        named = {"displayName": variables["displayName"], "description": ""}
        project = {"id": "1", "name": "glam", "entityName": "me"}
        return {"upsertView": {"view": {**view, **named, "project": project}}}

    service = SimpleNamespace(execute_graphql=execute, app_url="https://wandb.example.org")
    server = SimpleNamespace(
        _service_api=service,
        default_entity="me",
        projects=lambda entity: [SimpleNamespace(name="glam")],
    )
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setattr("wandb.Api", lambda: server)
    publish(LoggerConfig(), subject_of(study))
    assert [one["type"] for one in sent] == ["project-view", "runs"]
    assert {(one["entityName"], one["projectName"]) for one in sent} == {("me", "glam")}
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("workspace https://wandb.example.org/me/glam?nw=")
    assert second.startswith("report    https://wandb.example.org/me/glam/reports/")


def test_without_a_key_one_line_says_so(study, tmp_path, monkeypatch, capsys):
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    publish(LoggerConfig(), subject_of(study))
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "warning: no workspace on W&B: W&B has no key here; run wandb login, then the "
        "same command again"
    )


def test_without_the_package_one_line_says_so(study, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    publish(LoggerConfig(), subject_of(study))
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("is not installed; .venv/bin/pip install -e '.[workspaces]'")
