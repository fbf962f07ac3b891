"""A trained run is evaluated on its own text in its own tokens, and writes text without any."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import glam
from glam.config import (
    BiasTaskConfig,
    DataConfig,
    EvaluateTaskConfig,
    EvaluationConfig,
    FilterConfig,
    GenerateTaskConfig,
    HardwareConfig,
    ListTaskConfig,
    LocalCorpusConfig,
    LoggerConfig,
    ModelConfig,
    RunConfig,
    TaskConfig,
    TrainingConfig,
)
from glam.errors import UserError
from glam.machine.resources import resolve
from glam.model import Glam
from glam.runs.evaluations import read_items, read_suites
from glam.runs.folder import RunFolder
from glam.tasks import evaluate as evaluation
from glam.tasks.evaluate import evaluate
from glam.tasks.generate import generate
from glam.tasks.list import list_all
from glam.tasks.prepare import prepared_text
from glam.tasks.report import report
from glam.tasks.train import train
from glam.tasks.trained import trained_run


def write_text(folder: Path, word: str) -> None:
    folder.mkdir(exist_ok=True)
    for domain in ("posts", "books"):
        lines = [
            json.dumps({"text": f"{word} {i} then {i * i % 97} {domain} of the {word} " * 6})
            for i in range(30)
        ]
        (folder / f"{domain}.jsonl").write_text("\n".join(lines) + "\n")


def asked(home: Path, task: TaskConfig | None = None, **changes) -> RunConfig:
    return RunConfig(
        task=task or TaskConfig(),
        model=ModelConfig(
            vocab_size=288, num_layers=2, d_model=16, d_ff=16, num_heads=2, num_experts=4
        ),
        data=DataConfig(
            corpus=LocalCorpusConfig(files=[str(home / "text")]), filter=FilterConfig(name="none")
        ),
        training=TrainingConfig(sequence_length=16, batch_size=4, tokens=640),
        evaluation=EvaluationConfig(name="held_out", tokens_per_domain=128, points=0),
        hardware=HardwareConfig(device="cpu"),
        logger=LoggerConfig(name="csv"),
        runs_dir=str(home / "runs"),
        cache_dir=str(home / "cache"),
        **changes,
    )


def as_trained(home: Path, save_weights) -> RunFolder:
    """A run that has not learnt anything, but looks as if it were done."""
    config = asked(home)
    run = RunFolder.of(config, resolve(config))
    prepared = prepared_text(config)
    run.path.mkdir(parents=True)
    run.write_config(config)
    prepared.tokenizer.copy_to(run.path)
    model = Glam(config.model)
    model.initialize(1)
    save_weights(run.path, model.state_dict(), 1)
    fingerprints = {
        "data_fingerprint": prepared.fingerprint,
        "text_fingerprint": prepared.text_fingerprint,
    }
    run.write_json("summary.json", {"status": "done", "seed": 0, **fingerprints})
    run.report_file.touch()
    return run


@pytest.fixture(scope="module")
def template(tmp_path_factory, save_weights):
    home = tmp_path_factory.mktemp("template")
    write_text(home / "text", "buy")
    as_trained(home, save_weights)
    return home


@pytest.fixture
def home(template, tmp_path):
    """A folder of text, the run that was trained on it, and its cache, in a place of its own."""
    shutil.copytree(template, tmp_path / "home")
    here = tmp_path / "home"
    [run] = (here / "runs").glob("*")
    config = asked(here)
    RunFolder(run).write_config(config)
    run.rename(RunFolder.of(config, resolve(config)).path)
    return here


def run_in(home: Path) -> RunFolder:
    [run] = (home / "runs").glob("glam*")
    return RunFolder(run)


def evaluated(home: Path) -> dict[str, float]:
    run = run_in(home)
    evaluate(asked(home, EvaluateTaskConfig(), run=str(run.path)), [])
    return json.loads((run.path / "evaluation.json").read_text())["loss"]


def test_evaluation_uses_the_runs_own_tokenizer_where_the_cache_has_none(home):
    before = evaluated(home)
    shutil.rmtree(home / "cache")
    (run_in(home).path / "evaluation.json").unlink()
    assert evaluated(home) == before
    assert not list((home / "cache").glob("tokenizer-*"))


def test_evaluation_on_other_text_is_refused_and_what_was_found_before_stays(home):
    before = evaluated(home)
    write_text(home / "text", "sell")
    with pytest.raises(UserError, match="was trained on other text than its data"):
        evaluated(home)
    assert json.loads((run_in(home).path / "evaluation.json").read_text())["loss"] == before


@pytest.mark.parametrize("has_tokenizer", [True, False])
def test_a_run_that_recorded_no_text_is_compared_by_its_tokens(home, has_tokenizer, caplog):
    run = run_in(home)
    summary = run.summary()
    del summary["text_fingerprint"]
    run.write_json("summary.json", summary)
    if not has_tokenizer:  # as before 0.2
        for name in ("tokenizer.model", "tokenizer.vocab"):
            (run.path / name).unlink()
    with caplog.at_level("INFO", "glam"):
        evaluated(home)
    assert "no text is recorded" in caplog.text
    write_text(home / "text", "sell")
    with pytest.raises(UserError, match="gives other tokens than it was trained on"):
        evaluated(home)
    generating = asked(home, GenerateTaskConfig(max_tokens=2, samples=1), run=str(run.path))
    if has_tokenizer:
        generate(generating, [])
    else:
        with pytest.raises(UserError, match="gives other tokens than it was trained on"):
            generate(generating, [])


def test_without_its_text_and_cache_a_run_writes_the_same_and_loads(home, capsys, caplog):
    run = run_in(home)
    config = asked(home, GenerateTaskConfig(max_tokens=4, samples=1), run=str(run.path))
    generate(config, [])
    before = capsys.readouterr().out
    shutil.rmtree(home / "text")
    shutil.rmtree(home / "cache")
    generate(config, [])
    assert capsys.readouterr().out == before
    assert glam.load(run.path, device="cpu").loss("buy 3 then").tokens > 1
    assert not (home / "cache").exists()
    caplog.clear()
    with pytest.raises(UserError, match=r"data.corpus.files: .* names no file of text"):
        evaluated(home)
    assert caplog.messages == []


def test_a_tokenizer_that_is_not_the_runs_is_refused(home):
    run = run_in(home)
    other = replace(asked(home), model=replace(asked(home).model, vocab_size=290))
    prepared_text(other).tokenizer.copy_to(run.path)
    with pytest.raises(UserError, match="its tokenizer has 290 pieces and its model 288"):
        glam.load(run.path, device="cpu")
    (run.path / "tokenizer.model").write_bytes(b"cut")
    with pytest.raises(UserError, match="its tokenizer cannot be read"):
        glam.load(run.path, device="cpu")


def test_an_evaluation_that_could_not_be_kept_is_refused_before_the_work(home, monkeypatch):
    monkeypatch.setattr(
        "glam.runs.folder.why_closed",
        lambda path: "Read-only file system" if path == run_in(home).path else None,
    )
    monkeypatch.setattr("glam.tasks.evaluate.text_of", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(UserError, match=r"evaluation.json cannot be written \(Read-only file sys"):
        evaluated(home)


def test_the_same_line_after_the_text_changed_is_refused(home, capsys):
    train(asked(home), [])
    assert "done" in capsys.readouterr().out
    write_text(home / "text", "sell")
    with pytest.raises(UserError, match=r"other text .* rerun=true"):
        train(asked(home), [])
    assert capsys.readouterr().out == ""


def test_a_run_that_was_moved_without_its_text_is_done_and_says_so(home, caplog):
    shutil.rmtree(home / "text")
    train(asked(home), [])
    assert "the text is not here, so it was not compared" in caplog.text


def test_a_run_that_was_cut_off_keeps_its_tokenizer_when_its_text_changed(home, monkeypatch):
    run = run_in(home)
    summary = run.summary()
    (run.path / "summary.json").unlink()
    said = {"funnel": [], "samples": {}, "quality": {}, "epochs": {}}
    said["fingerprint"] = summary["data_fingerprint"]
    tokenizer = (run.path / "tokenizer.model").read_bytes()
    write_text(home / "text", "sell")
    for recorded in (said, said | {"text_fingerprint": summary["text_fingerprint"]}):
        run.write_json("data.json", recorded)
        written = (run.path / "data.json").read_bytes()
        with pytest.raises(UserError, match=r"rerun=true"):
            train(asked(home), [])
        assert (run.path / "tokenizer.model").read_bytes() == tokenizer
        assert (run.path / "data.json").read_bytes() == written


def test_a_page_is_not_written_over_by_one_of_a_damaged_configuration(home):
    run = run_in(home)
    before = run.report_file.read_bytes()
    run.config_file.write_text(run.config_file.read_text().replace("d_ff: 16", "d_ff: 17"))
    with pytest.raises(UserError, match=r"config\.yaml"):
        report(asked(home, TaskConfig(name="report"), run=str(run.path)), [])
    assert run.report_file.read_bytes() == before


def test_a_list_of_a_file_is_refused(home):
    (home / "file").write_text("")
    config = RunConfig(task=ListTaskConfig(), runs_dir=str(home / "file"))
    with pytest.raises(UserError, match=r"runs_dir=.* is a file; name the folder of the runs"):
        list_all(config, [])


@pytest.fixture
def data(home):
    """Choices in the hub's layout, as PIQA has them."""
    folder = home / "data" / "baber" / "piqa"
    folder.mkdir(parents=True)
    lines = [
        json.dumps({"goal": f"buy {i} then", "sol1": "61 posts", "sol2": "of it", "label": i % 2})
        for i in range(12)
    ]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return home / "data"


def judge(home: Path, data: Path, runs: str, **changes) -> None:
    judged = EvaluationConfig(
        name="lm_eval", tasks=["piqa"], max_length=200, **{"data_dir": str(data), **changes}
    )
    config = replace(asked(home, EvaluateTaskConfig(), run=runs), evaluation=judged)
    evaluate(config, ["evaluation=lm_eval", f"evaluation.num_fewshot={judged.num_fewshot}"])


@pytest.fixture
def cached(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def test_tasks_are_judged_printed_kept_and_shown_on_the_page(home, data, cached, capsys):
    run = run_in(home)
    run.write_json("summary.json", {**run.summary(), "tokens": 640})
    judge(home, data, str(run.path), num_fewshot=[0, 2])
    out = capsys.readouterr().out
    assert "0-shot" in out
    assert "2-shot" in out
    [saved] = read_suites(run.path)
    assert saved["suite"] == "piqa-max_length=200"
    first = saved["scores"][0]
    assert (first["task"], first["metric"], first["items"], first["chance"]) == (
        *("piqa", "acc", 12),
        0.5,
    )
    assert first["low"] < first["value"] < first["high"]
    assert {"lm_eval", "torch"} <= set(saved["versions"])
    assert len(read_items(run.path, "piqa-max_length=200")["tasks"][0]["each"]) == 12
    theirs = json.loads(
        (run.path / "evaluation" / "piqa-max_length=200.2-shot.lm_eval.json").read_text()
    )
    assert theirs["n-shot"] == {"piqa": 2}
    assert not (run.path / "evaluation.json").exists()  # of losses, for which no text was read
    assert "piqa" in run.report_file.read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_dir": "/no"}, r"evaluation\.data_dir=/no is no folder; name one that has"),
        ({"num_fewshot": [0, 5000]}, "num_fewshot=5000: piqa has 11 documents for demonstrations"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_a_model_is_read(
    home, data, cached, monkeypatch, changes, words
):
    monkeypatch.setattr(evaluation, "load_model", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match=words):
        judge(home, data, str(run_in(home).path), **changes)


def test_scores_that_could_not_be_kept_are_not_measured(home, data, cached, monkeypatch):
    run = run_in(home)
    (run.path / "evaluation").write_text("in the way")
    monkeypatch.setattr(evaluation, "load_model", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match=r"evaluation/piqa.*json cannot be written \(File exists\)"):
        judge(home, data, str(run.path))


def test_two_runs_are_compared_on_the_same_items(home, data, cached, capsys):
    run = run_in(home)
    other = run.path.with_name("other")
    shutil.copytree(run.path, other)
    judge(home, data, f"{run.path},{other}", limit=8)
    out = capsys.readouterr().out
    assert f"other against {run.path.name}" in out
    [line] = [line for line in out.splitlines() if "+0.000 ± 0.000" in line]
    assert line.split()[:3] == ["piqa", "acc", "8"]


def test_a_run_is_named_once(home, data):
    run = run_in(home).path
    with pytest.raises(UserError, match="names a run twice; name different ones"):
        judge(home, data, f"{run},{run}")


SERVING = [
    ("active_threshold", 0.5, GenerateTaskConfig, EvaluateTaskConfig),
    ("expert_scale", ["1/0:0"], GenerateTaskConfig, BiasTaskConfig),
    ("memory_mb", 5.0, GenerateTaskConfig),
    ("expert_type", "int8", GenerateTaskConfig),
]


@pytest.mark.parametrize(
    ("name", "value", "task"),
    [(name, value, t) for name, value, *all_of in SERVING for t in all_of],
)
def test_a_key_of_experts_is_refused_of_a_dense_run(home, name, value, task):
    dense = replace(asked(home), model=replace(asked(home).model, num_experts=1))
    run = RunFolder.of(dense, resolve(dense))
    run.path.mkdir()
    run.write_config(dense)
    config = asked(home, task(**{name: value}), run=str(run.path))
    with pytest.raises(UserError, match=rf"task\.{name}=.* is about experts, and .* is dense"):
        trained_run(config, [])


def test_a_threshold_is_refused_where_a_token_has_one_expert(home):
    one = replace(asked(home), model=replace(asked(home).model, top_k=1))
    run = RunFolder.of(one, resolve(one))
    run.path.mkdir()
    run.write_config(one)
    config = asked(home, GenerateTaskConfig(active_threshold=0.5), run=str(run.path))
    with pytest.raises(
        UserError, match=r"task\.active_threshold=0\.5 .* has model\.top_k=1; leave"
    ):
        trained_run(config, [])
    trained_run(asked(home, GenerateTaskConfig(expert_scale=["1/0:0"]), run=str(run.path)), [])
