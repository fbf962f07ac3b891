"""A study pairs losses on equal text, or it is refused."""

from dataclasses import replace

import pytest

from glam.config import (
    DataConfig,
    EvaluationConfig,
    FilterConfig,
    LocalCorpusConfig,
    ModelConfig,
    RunConfig,
)
from glam.data.documents import text_fingerprint
from glam.data.sources import checked_sources
from glam.errors import UserError
from glam.machine.resources import resolve
from glam.studies.comparable import check_evaluations, check_texts
from glam.studies.study import Cell, Study, TrainingCell

ASKED = EvaluationConfig(tokens_per_domain=60_000, points=20)


@pytest.fixture
def study(tmp_path):
    """Of cells by their number of experts, which ask for the evaluation above."""

    def make(*experts: int, **changes) -> Study:
        cells = []
        for count in experts:
            config = replace(
                RunConfig(),
                runs_dir=str(tmp_path),
                model=ModelConfig(num_experts=count),
                evaluation=ASKED,
                **changes,
            )
            values = {"model.num_experts": count}
            cell = Cell(values=values, config=config, overrides=[f"model.num_experts={count}"])
            cells.append(TrainingCell.of(cell, resolve(config)))
        return Study.of(cells, ["model.num_experts"])

    return make


def finish(cell: TrainingCell, status: str = "done", **evaluation) -> None:
    """As an earlier command has trained and evaluated it."""
    cell.run.path.mkdir()
    found = replace(cell.config, evaluation=replace(ASKED, **evaluation))
    cell.run.write_config(found)
    cell.run.write_json("summary.json", {"status": status, "loss": {"mean": 4.0}})


def test_cells_evaluated_alike_pass_without_a_word(study, caplog):
    found = study(1, 8)
    finish(found.cells[0])
    check_evaluations(found)
    assert caplog.messages == []


def test_a_cell_evaluated_on_less_text_is_refused_by_name(study):
    found = study(1, 8)
    finish(found.cells[1], tokens_per_domain=4096)
    with pytest.raises(UserError) as refusal:
        check_evaluations(found)
    line = str(refusal.value)
    assert line.startswith("num_experts=8 was evaluated with evaluation.tokens_per_domain=4096")
    assert "asks for evaluation.tokens_per_domain=60000" in line
    assert f"task=evaluate run={found.cells[1].run.path}" in line
    assert "\n" not in line


def test_a_cell_that_an_earlier_command_brought_in_counts_too(study):
    earlier = study(1)
    finish(earlier.cells[0], tokens_per_domain=4096)
    earlier.record()
    with pytest.raises(UserError, match=earlier.cells[0].run.path.name):
        check_evaluations(study(8))


def test_a_cell_that_is_run_again_or_has_no_losses_is_not_compared(study):
    again = study(1, rerun=True)
    finish(again.cells[0], tokens_per_domain=4096)
    check_evaluations(again)
    diverged = study(8)
    finish(diverged.cells[0], status="diverged", tokens_per_domain=4096)
    check_evaluations(diverged)


def test_other_points_of_the_curve_are_told_and_go_on(study, caplog):
    found = study(1)
    finish(found.cells[0], points=5)
    check_evaluations(found)
    assert "num_experts=1 was measured with evaluation.points=5" in caplog.text


def test_other_tasks_are_told_and_go_on(study, caplog):
    found = study(1)
    finish(found.cells[0], name="held_out")
    check_evaluations(found)
    assert "num_experts=1 was judged with evaluation=held_out and this command" in caplog.text
    assert "curves have other points" not in caplog.text


@pytest.fixture
def text(tmp_path):
    """A configuration of text that can be edited, and the fingerprint that it has at first."""
    (tmp_path / "posts.jsonl").write_text('{"text": "one"}\n')
    corpus = LocalCorpusConfig(files=[str(tmp_path / "*.jsonl")])
    data = DataConfig(corpus=corpus, filter=FilterConfig(name="none"))
    return data, text_fingerprint(checked_sources(data))


def record_text(cell: TrainingCell, fingerprint: str) -> None:
    summary = cell.run.summary()
    cell.run.write_json("summary.json", {**summary, "text_fingerprint": fingerprint})


def test_a_finished_cell_of_the_same_text_passes_without_a_word(study, text, caplog):
    data, fingerprint = text
    found = study(1, 8, data=data)
    finish(found.cells[0])
    record_text(found.cells[0], fingerprint)
    check_texts(found)
    assert caplog.messages == []


def test_a_finished_cell_of_other_text_is_refused_unless_it_is_run_again(study, text, tmp_path):
    data, fingerprint = text
    found = study(1, 8, data=data)
    finish(found.cells[0])
    record_text(found.cells[0], fingerprint)
    (tmp_path / "posts.jsonl").write_text('{"text": "two"}\n')
    with pytest.raises(UserError, match=r"other text .* this study would pair .* rerun=true"):
        check_texts(found)
    check_texts(study(1, 8, data=data, rerun=True))


def test_a_cell_that_was_begun_on_other_text_is_refused(study, text):
    data, _ = text
    found = study(1, data=data)
    (found.cells[0].run.checkpoints / "step-00000001").mkdir(parents=True)
    said = {"funnel": [], "samples": {}, "quality": {}, "epochs": {}, "fingerprint": "tokens"}
    found.cells[0].run.write_json("data.json", said | {"text_fingerprint": "another"})
    with pytest.raises(UserError, match="other text"):
        check_texts(found)


def test_the_text_of_a_cell_that_an_earlier_command_brought_in_counts_too(study, text, tmp_path):
    data, fingerprint = text
    earlier = study(1, data=data)
    finish(earlier.cells[0])
    record_text(earlier.cells[0], fingerprint)
    earlier.record()
    check_texts(study(8, data=data))
    (tmp_path / "posts.jsonl").write_text('{"text": "two"}\n')
    with pytest.raises(UserError, match=rf"{earlier.cells[0].run.path.name} .* other text"):
        check_texts(study(8, data=data))
