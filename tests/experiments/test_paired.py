"""Paired differences of a study's table, against their definitions."""

import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.paired import main, pairs_of, table

HEAD = "data,model.num_experts,seed,id,run,status,loss/mean,loss/tweets"


@pytest.fixture
def study(tmp_path):
    file = tmp_path / "study.csv"
    rng = np.random.default_rng(0)
    noise = {seed: float(rng.normal()) for seed in range(5)}
    lines = [HEAD]
    for data, seed in itertools.product(("unfiltered", "filtered"), range(5)):
        gain = (0.1 + 0.01 * rng.normal()) * (data == "filtered")
        tweets = 5 + noise[seed] + 0.01 * rng.normal() * (data == "filtered")
        lines.append(f"{data},16,{seed},x,x,done,{4 + noise[seed] - gain},{tweets}")
    file.write_text("\n".join(lines))
    return file


def test_runs_of_a_seed_are_paired_whatever_their_order(study):
    found = pairs_of(study, "data", "unfiltered")
    head, *lines = study.read_text().splitlines()
    study.write_text("\n".join([head, *reversed(lines)]))
    again = pairs_of(study, "data", "unfiltered")
    assert {k: sorted(v) for k, v in found.items()} == {k: sorted(v) for k, v in again.items()}
    value = "filtered (model.num_experts 16)"
    assert len(found[value, "loss/mean"]) == 5
    assert found[value, "loss/mean"] == pytest.approx([-0.1] * 5, abs=0.05)


def test_a_run_that_is_not_done_or_has_no_twin_is_left_out(study):
    text = study.read_text().replace("unfiltered,16,0,x,x,done", "unfiltered,16,0,x,x,failed")
    study.write_text(text)
    [counts] = {len(v) for v in pairs_of(study, "data", "unfiltered").values()}
    assert counts == 4


def test_the_table_has_the_t_interval_and_a_star_where_it_is_significant(study):
    found = pairs_of(study, "data", "unfiltered")
    row = table(found).splitlines()[-1]
    differences = found["filtered (model.num_experts 16)", "loss/mean"]
    half = stats.t.ppf(0.975, 4) * np.std(differences, ddof=1) / np.sqrt(5)
    assert f"−{half - np.mean(differences):.3f}" in row  # the lower end
    assert row.count("*") == 1


def test_a_baseline_of_yamls_true_is_the_tables(study):
    head, *lines = study.read_text().splitlines()
    named = [line.replace("unfiltered,", "True,").replace("filtered,", "False,") for line in lines]
    study.write_text("\n".join([head.replace("data", "model.router.normalize"), *named]))
    found = pairs_of(study, "model.router.normalize", "true")
    assert {value for value, _ in found} == {"False (model.num_experts 16)"}


def test_a_baseline_that_is_not_there_is_answered_with_those_that_are(study, capsys):
    with pytest.raises(SystemExit):
        main([str(study), "data", "clean"])
    assert "it has unfiltered filtered" in capsys.readouterr().err


def test_several_keys_are_one(study):
    """Every recipe and number of experts against the one that is named, also where both differ."""
    head, *lines = study.read_text().splitlines()
    more = []
    for line in lines:
        data, _, *same, loss, tweets = line.split(",")
        more.append(",".join([data, "1", *same, f"{float(loss) + 1}", tweets]))
    study.write_text("\n".join([head, *lines, *more]))
    found = pairs_of(study, "data,model.num_experts", "unfiltered,16")
    assert {value for value, _ in found} == {"filtered, 16", "unfiltered, 1", "filtered, 1"}
    assert np.mean(found["unfiltered, 1", "loss/mean"]) == pytest.approx(1, abs=1e-9)
    assert np.mean(found["filtered, 1", "loss/mean"]) == pytest.approx(0.9, abs=0.05)


def test_a_domain_that_not_all_runs_have_is_left_out(study):
    head, first, *lines = study.read_text().splitlines()
    study.write_text("\n".join([head, first[: first.rindex(",") + 1], *lines]))
    assert {domain for _, domain in pairs_of(study, "data", "unfiltered")} == {"loss/mean"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# A heading\n\nsome words, and others\n", "rows that are not as long as its head"),
        (f"{HEAD}\nfiltered,16,0,x\n", "rows that are not as long as its head"),
        (f"{HEAD}\nfiltered,16,0,x,x,done,inf,5\n", "is 'inf', no number"),
    ],
)
def test_a_file_that_is_no_table_of_a_study_gets_one_line(tmp_path, capsys, text, words):
    file = tmp_path / "study.csv"
    file.write_text(text)
    with pytest.raises(SystemExit) as refused:
        main([str(file), "data", "unfiltered"])
    assert refused.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
