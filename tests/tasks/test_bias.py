"""`task=bias` on a run, and `task.expert_scale` at evaluation, generation and export."""

import json

import pytest
import torch

from glam.config import BiasTaskConfig, EvaluateTaskConfig, GenerateTaskConfig
from glam.errors import UserError
from glam.evaluation import Sampling, continue_tokens
from glam.files import read_json
from glam.model import Glam
from glam.model.decoding.decoder import GrowingContext
from glam.model.scaling import scale_experts
from glam.runs.findings import Bias, Correction
from glam.tasks.bias import bias
from glam.tasks.evaluate import evaluate
from glam.tasks.generate import generate
from glam.tasks.trained import load_model
from tests.evaluation.bias.test_toxicity import bad_words
from tests.tasks.test_trained import as_trained, asked, run_in, write_text


@pytest.fixture(scope="module")
def home(tmp_path_factory, save_weights):
    home = tmp_path_factory.mktemp("bias")
    write_text(home / "text", "buy")
    as_trained(home, save_weights)
    return home


@pytest.fixture(scope="module")
def own_scorer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glam.evaluation.bias.toxicity.toxicity_scorer", lambda: bad_words)
        yield


def biased(home, task):
    run = run_in(home)
    bias(asked(home, task, run=str(run.path)), [])
    return run


def test_it_writes_what_the_strict_reader_takes_and_a_section_of_the_report(
    home, own_scorer, capsys
):
    run = biased(home, BiasTaskConfig(samples=1, max_tokens=4, shuffles=100))
    found = read_json(run.path / "bias.json", Bias, way_out="")
    assert len(found["associations"]) == 14
    assert found["num_tested"] == len(found["experts"]) == 4 * 14  # no text has a bad word
    assert {row["association"] for row in found["experts"]} >= {"occupations", "religion/Jewish"}
    assert found["words"]["groups"][0]["texts"] == 2
    page = run.report_file.read_text()
    assert 'id="bias"' in page
    assert "Through which experts" in page
    said = capsys.readouterr().out
    assert "good words for Muslim" in said
    assert "effects of experts were found" in said


def test_without_a_scorer_toxicity_is_left_out_with_a_line(home, caplog, monkeypatch):
    monkeypatch.setattr("glam.evaluation.bias.toxicity.toxicity_scorer", lambda: None)
    with caplog.at_level("WARNING", "glam"):
        run = biased(home, BiasTaskConfig(samples=1, max_tokens=2, shuffles=100, by_expert=False))
    assert "toxicity is left out: the package detoxify is not here" in caplog.text
    found = read_json(run.path / "bias.json", Bias, way_out="")
    assert found["toxicity"] == found["experts"] == []


def test_a_correction_stands_beside_loss_and_is_kept_apart_from_the_run(home, capsys):
    run = run_in(home)
    before = {file.name: file.read_bytes() for file in run.path.glob("*.json")}
    biased(home, BiasTaskConfig(expert_scale=["1/2:0"], shuffles=100))
    found = read_json(run.path / "correction.json", Correction, way_out="")
    assert found["expert_scale"] == ["1/2:0"]
    assert [row["domain"] for row in found["loss"]] == ["books", "posts"]
    assert any(row["change"] != 0 for row in found["loss"])
    for row in found["associations"]:
        change = row["after"]["effect"] - row["before"]["effect"]
        assert row["change"]["effect"] == pytest.approx(change, abs=1e-9)
    assert "With experts scaled" in run.report_file.read_text()
    assert "1/2:0" in capsys.readouterr().out
    after = {file.name: file.read_bytes() for file in run.path.glob("*.json")}
    assert {name: after[name] for name in before} == before


def test_tasks_before_and_after_are_compared_item_by_item(home, monkeypatch):
    """The suite is stood in for by its answers; the rest of the path is as it is."""
    answers = iter([[1, 1, 0, 1, 0, 1], [1, 0, 0, 1, 0, 0]])

    def items(*_):
        task = {"task": "copa", "metric": "acc", "column": "", "digest": "d", "clusters": None}
        return {"suite": "own", "tasks": [{**task, "each": next(answers)}]}

    monkeypatch.setattr("glam.tasks.bias._items", items)
    run = biased(home, BiasTaskConfig(expert_scale=["1/2:0"], shuffles=100))
    [row] = read_json(run.path / "correction.json", Correction, way_out="")["tasks"]
    assert (row["task"], row["before"], row["after"]) == ("copa", 4 / 6, 2 / 6)
    assert row["low"] < row["change"] < row["high"]
    assert row["change"] == pytest.approx(-2 / 6)
    assert ">copa<" in run.report_file.read_text()


@pytest.mark.parametrize(
    "other",
    [{"expert_scale": ["1/0:0", "1/1:0", "1/2:0", "1/3:0"]}, {"active_threshold": 1.0}],
)
def test_evaluation_with_other_experts_shows_losses_and_keeps_none(home, capsys, other):
    run = run_in(home)
    evaluate(asked(home, EvaluateTaskConfig(), run=str(run.path)), [])
    whole, kept = capsys.readouterr().out, (run.path / "evaluation.json").read_bytes()
    evaluate(asked(home, EvaluateTaskConfig(**other), run=str(run.path)), [])
    assert capsys.readouterr().out != whole
    assert (run.path / "evaluation.json").read_bytes() == kept


def test_generation_with_scaled_experts_is_that_of_the_scaled_weights(home, capsys):
    run = run_in(home)
    task = GenerateTaskConfig(
        expert_scale=["1/0:0", "1/3:2.5"],
        prompt="buy 3",
        max_tokens=6,
        temperature=0,
        format="json",
    )
    config = asked(home, task, run=str(run.path))
    model = load_model(run, config)
    wanted = scale_experts(Glam.from_run(run.path), {(1, 0): 0.0, (1, 3): 2.5})
    for name, weight in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    generate(config, [])
    assert json.loads(capsys.readouterr().out)["prompt"] == "buy 3"


def test_the_decoder_with_a_cache_writes_what_the_growing_context_does(home):
    """So the scale holds in the kernel that decodes, too."""
    run = run_in(home)
    scales = {(1, 0): 0.0, (1, 3): 2.5}
    model = scale_experts(Glam.from_run(run.path), scales)
    prompt = [1, 20, 30, 40]
    [new] = continue_tokens(model, [prompt], max_tokens=12, end=-1, search=Sampling())
    slow, tokens = GrowingContext(model), list[int]()
    with torch.no_grad():
        logits = slow.start([prompt])
        for _ in range(12):
            tokens.append(int(logits.argmax()))
            logits = slow.step(tokens[-1:])
    assert new == tokens


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("1/3", "names no layer, expert and number"),
        ("1/3:-1", "names no layer, expert and number"),
        ("1/3:nan", "names no layer, expert and number"),
        ("1.3:0", "names no layer, expert and number"),
        ("1/3:101", "must lie between 0 and 100"),
    ],
)
def test_a_scale_that_cannot_be_read_is_refused(entry, said):
    with pytest.raises(UserError, match=said):
        GenerateTaskConfig(expert_scale=[entry])


def test_an_expert_that_is_named_twice_is_refused():
    with pytest.raises(UserError, match="names an expert twice"):
        GenerateTaskConfig(expert_scale=["1/3:0", "1/3:1"])
