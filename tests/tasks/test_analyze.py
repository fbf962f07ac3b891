"""`task=analyze` on a run: what it writes, prints and refuses."""

import json
import re
from dataclasses import replace

import pytest

from glam.config import AnalyzeTaskConfig, ModelConfig
from glam.errors import UserError
from glam.files import read_json
from glam.machine.resources import resolve
from glam.runs.findings import Analysis
from glam.runs.folder import RunFolder
from glam.tasks.analyze import analyze
from tests.tasks.test_trained import as_trained, asked, run_in, write_text


@pytest.fixture(scope="module")
def home(tmp_path_factory, save_weights):
    home = tmp_path_factory.mktemp("analyze")
    write_text(home / "text", "buy")
    as_trained(home, save_weights)
    return home


def analyzed(home, **changes):
    run = run_in(home)
    analyze(asked(home, AnalyzeTaskConfig(shuffles=20), run=str(run.path), **changes), [])
    return run


def test_it_writes_a_file_that_the_strict_reader_takes_and_a_section_of_the_report(home, capsys):
    run = analyzed(home)
    found = read_json(run.path / "analysis.json", Analysis, way_out="")
    assert set(found["documents_by_domain"]) == {"posts", "books"}
    assert {row["about"] for row in found["information"]} == {"token", "class", "domain"}
    assert len(found["experts"]) == 4
    page = run.report_file.read_text()
    assert 'id="inside"' in page
    assert "Expert and the token (bits)" in re.sub(r"<[^>]*>", "", page)
    said = capsys.readouterr().out
    assert "specialisations held on documents that did not pick them" in said
    assert str(run.report_file) in said.replace("\n", "")


def test_a_changed_analysis_is_left_out_of_the_page_with_a_line(home, caplog):
    run = analyzed(home)
    content = json.loads((run.path / "analysis.json").read_text())
    content["tokens"] += 1
    (run.path / "analysis.json").write_text(json.dumps(content))
    from glam.reporting import run_report

    with caplog.at_level("WARNING", "glam"):
        page = run_report(run.path).read_text()
    assert 'id="inside"' not in page
    assert "changed after it was written" in caplog.text


def test_a_dense_run_is_refused_in_a_line(home, save_weights, tmp_path):
    config = asked(home)
    dense = replace(config, model=replace(config.model, num_experts=1), runs_dir=str(tmp_path))
    assert isinstance(dense.model, ModelConfig)
    run = RunFolder.of(dense, resolve(dense))
    run.path.mkdir(parents=True)
    run.write_config(dense)
    task = AnalyzeTaskConfig(shuffles=20)
    with pytest.raises(UserError, match="is dense: it has no experts to analyze"):
        analyze(asked(home, task, run=str(run.path)), [])
    assert not (run.path / "analysis.json").exists()
