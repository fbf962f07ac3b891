"""The pages of the studies say what their tables say, and nothing by hand."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.pages import commands, tables
from experiments.pages.__main__ import main
from experiments.pages.blocks import FUNCTIONS
from experiments.pages.claims import CLAIMS, claim
from experiments.pages.differences import by_domain, compared, differences, scores
from experiments.pages.overview import ASKED, PAPER
from experiments.pages.render import changed_line, pages, rendered
from experiments.pages.words import Effect, answer, verdict

ROOT = tables.STUDIES.parent
STUDIES = sorted({name.partition("/")[0] for name in CLAIMS})
BLOCK = re.compile(r"<!-- \[\[\[cog.*?\]\]\] -->.*?<!-- \[\[\[end\]\]\] -->", re.DOTALL)
# What holds digits and is no number of a study: code, links and pictures, names of things, years
# and places of publications, the confidence of an interval.
NAMES = (
    r"^    .*$", r"`[^`]*`", r"!?\[[^]]*\]\([^)]*\)", r"\b(?:bfloat|float|int)\d+\b",
    r"\b\d+B/\d+E\b", r"GPT-\d", r"arXiv \d+\.\d+", r"et al\. \d{4}",
    r"\b(?:section|equation) [\d.]+",    r"\b(?:95|90|5) %", r"holds 0\b", r"below 0\b",
)  # fmt: skip
# Cited, or stated before any run of a grid: no table of ours has them.
NOT_MEASURED = ("## Before the fit", "## Beside it")


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_what_the_tables_say(page):
    text = page.read_text()
    assert changed_line(text, rendered(text, page.name, FUNCTIONS)) is None, (
        f"python -m experiments.pages {page.relative_to(ROOT)}"
    )


def test_every_study_has_its_page_whose_first_words_are_its_claim():
    for name in STUDIES:
        _, _, body = (ROOT / "experiments" / name / "README.md").read_text().partition("\n\n")
        first = "ablations()" if name == "ablations" else f'claim("{name}")'
        assert body.startswith(f"<!-- [[[cog {first} ]]] -->\n"), name


def test_the_overviews_have_every_claim_once():
    assert sorted((*PAPER, *ASKED)) == sorted(CLAIMS)


def typed(text: str) -> list[str]:
    """Lines with a number outside of a block."""
    text = BLOCK.sub("", text)
    for heading in NOT_MEASURED:
        text = re.sub(rf"^{heading}.*?(?=^## |\Z)", "", text, flags=re.DOTALL | re.MULTILINE)
    for kind in NAMES:
        text = re.sub(kind, "", text, flags=re.MULTILINE)
    return [line for line in text.splitlines() if re.search(r"\d", line)]


@pytest.mark.parametrize("name", STUDIES)
def test_no_number_is_typed_by_hand(name):
    text = (ROOT / "experiments" / name / "README.md").read_text()
    assert typed(text) == []
    assert typed(text.replace("\n\n", "\n\nExperts lead by 0.05 nats.\n\n", 1)) == [
        "Experts lead by 0.05 nats."
    ]


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """The folder of a study, in a copy of the studies that the pages read."""
    monkeypatch.setattr(tables, "STUDIES", tmp_path)
    return Path(shutil.copytree(ROOT / "experiments" / "first_grid", tmp_path / "first_grid"))


def check(folder: Path) -> int:
    return main(["--check", str(folder / "README.md")])


def test_a_digit_that_is_changed_in_a_page_is_told_with_its_line(copy, capsys):
    page = copy / "README.md"
    assert check(copy) == 0
    text = page.read_text()
    place = text.index("−0.046") + 5
    page.write_text(text[:place] + "7" + text[place + 1 :])
    assert check(copy) == 1
    line = text[:place].count("\n") + 1
    assert f"README.md:{line} differs from the tables" in capsys.readouterr().out
    assert main([str(page)]) == 0
    assert page.read_text() == text


def test_a_digit_that_is_changed_in_a_table_is_told(copy, capsys):
    table = copy / "five_seeds.csv"
    with table.open(newline="") as file:
        loss = next(csv.DictReader(file))["loss/mean"]
    table.write_text(table.read_text().replace(loss, f"9{loss[1:]}"))
    assert check(copy) == 1
    assert main([str(copy / "README.md")]) == 0
    assert check(copy) == 0
    assert "written" in capsys.readouterr().out


def test_a_study_without_its_table_says_so_and_its_page_renders(copy):
    (copy / "five_seeds.csv").unlink()
    assert str(claim("first_grid")) == "**Not trained yet.**"
    text = rendered((copy / "README.md").read_text(), "page", FUNCTIONS)
    assert "**Not trained yet.**" in text
    assert "*Not trained yet: there is no `first_grid/five_seeds.csv`.*" in text


def test_runs_that_a_grid_lacks_are_counted(copy):
    table = copy / "five_seeds.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-2]) + "\n")
    assert "**2 of 15 runs of the grid are missing.**" in tables.ran("first_grid/five_seeds.csv")


def test_a_block_that_cannot_run_is_refused_by_page_and_line(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text('# A\n\n<!-- [[[cog claim("nonsense") ]]] -->\n<!-- [[[end]]] -->\n')
    with pytest.raises(SystemExit) as refused:
        main([str(page)])
    assert refused.value.code == 2
    assert f"{page}:3: KeyError: 'nonsense'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["no_study"])
    assert "no_study is no study and no page" in capsys.readouterr().err


def effect(low: float, high: float) -> Effect:
    return Effect((low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("low", "high", "good", "word"),
    [
        (-2, -1, "lower", "yes"),
        (1, 2, "lower", "no"),
        (-1, 1, "lower", "not told apart"),
        (1, 2, "higher", "yes"),
        (-2, -1, "higher", "no"),
        (-2, -1, "either", "yes"),
        (1, 2, "either", "yes"),
        (-1, 1, "either", "not told apart"),
        (math.nan, math.nan, "lower", "not told apart"),
    ],
)
def test_a_claim_is_answered_by_its_interval(low, high, good, word):
    assert effect(low, high).verdict(good) == word


def test_a_ratio_is_held_against_one():
    assert Effect(0.9, 0.8, 0.99, none=1.0).verdict() == "yes"
    assert Effect(0.9, 0.8, 1.01, none=1.0).verdict() == "not told apart"


def test_claims_of_several_effects_are_answered_one_by_one():
    assert verdict({"a": "yes", "b": "yes"}) == "Yes"
    mixed = verdict({"a": "not told apart", "b": "yes", "c": "no", "d": "yes"})
    assert mixed == "Yes for b and d, not told apart for a, no for c"
    told = str(answer("By", {"a": effect(-2, -1), "b": effect(-1, 1)}))
    assert told == (
        "**Yes for a, not told apart for b.** By: a −1.500 (−2.000 to −1.000), "
        "b +0.000 (−1.000 to +1.000)."
    )


@pytest.fixture
def study(tmp_path, monkeypatch) -> str:
    """Domains and tasks that no study has had: eight experts gain in one domain and in one task."""
    monkeypatch.setattr(tables, "STUDIES", tmp_path)
    random = np.random.default_rng(0)
    lines = [
        "model.num_experts,seed,id,run,status,loss/mean,loss/letters,loss/news,tokens,parameters/active,"
        "tasks/embedded/spelling,tasks/embedded/order"
    ]
    for seed in range(5):
        for experts in (1, 8, 16):
            gain = 0.1 * (experts == 8)
            noise = random.normal(0, 0.001, 5)
            numbers = (5 - gain / 2 + seed, 4 - gain + seed, 6 + seed)
            told = [f"{n + e:.5f}" for n, e in zip((*numbers, 0.5 + gain, 0.4), noise, strict=True)]
            run = f"glam_tiny-{experts}e-filtered-s{seed}-x"
            row = [experts, seed, "x", run, "done", *told[:3], 1000, 100, *told[3:]]
            lines.append(",".join(map(str, row)))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "results.csv").write_text("\n".join(lines))
    return "a/results.csv"


def test_whatever_domains_and_tasks_a_table_has_are_told(study):
    table = differences(study, "model.num_experts", "1")
    assert "| experts | seeds | mean | letters | news |" in table
    assert re.search(
        r"\| 8 \| 5 \| −0\.0(?:5|4)\d \(.*\)\* \| −0\.(?:10|09)\d \(.*\)\* \| [+−]0\.00", table
    )
    told = scores(study, "model.num_experts", "1")
    assert "| experts | seeds | mean | spelling | order |" in told
    assert re.search(
        r"\| 8 \| 5 \| \+0\.0(?:5|4)\d \(.*\)\* \| \+0\.(?:10|09)\d \(.*\)\* \| [+−]0\.00", told
    )
    assert by_domain(study, "model.num_experts", "1") == (
        "- Significant after Holm's correction, of 2 comparisons on each domain: "
        "lower: mean 1, letters 1; higher: none."
    )
    claimed = compared(study, "model.num_experts", "1", "Loss")
    assert claimed.word == "Yes for 8 experts, not told apart for 16 experts"


def test_a_table_without_tasks_has_no_scores(study, tmp_path):
    table = tmp_path / study
    rows = (line.split(",")[:-2] for line in table.read_text().splitlines())
    table.write_text("\n".join(map(",".join, rows)))
    assert scores(study, "model.num_experts", "1") == ""


def test_what_holms_correction_takes_back_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "STUDIES", tmp_path)
    lines = ["data,seed,id,status,loss/mean"]
    away = {"unfiltered": 0.0, **{f"recipe {i}": 0.0 for i in range(8)}, "good": -0.1}
    for seed, noise in enumerate((-0.06, 0.0, 0.06, 0.03, -0.03)):
        for data, loss in away.items():
            lines.append(f"{data},{seed},x,done,{5 + loss + noise * (data != 'unfiltered')}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    told = str(compared("t.csv", "data", "unfiltered", "Loss"))
    assert told.startswith("**Yes for good, not told apart for recipe 0")
    assert told.endswith("; significant after Holm's correction over the 9: none.")


def test_a_command_is_that_of_the_form_which_the_table_is_of(tmp_path, monkeypatch):
    assert commands.values("data_controls", "full")["training.tokens"] == ["4000000"]
    monkeypatch.setattr(tables, "STUDIES", tmp_path)
    start = "python run.py -m experiment=data_controls"
    assert commands.line("data_controls") == f"{start}/full"
    (tmp_path / "data_controls").mkdir()
    for form, tokens, seeds, more in (
        ("quick", 500_736, 5, ""),
        ("full", 4_000_768, 7, ""),
        ("full", 4_000_768, 2, " seed=0,1"),
    ):
        lines = ["seed,data,id,status,tokens"]
        recipes = commands.values("data_controls", "quick")["data"]
        lines += [f"{seed},{data},x,done,{tokens}" for seed in range(seeds) for data in recipes]
        (tmp_path / "data_controls" / "results.csv").write_text("\n".join(lines))
        assert commands.line("data_controls") == f"{start}/{form}{more}"


@pytest.mark.parametrize(
    ("ratio", "more"),
    [(5.4, ""), (2.0, " training.tokens_per_parameter=null training.tokens=20000,200000")],
)
def test_tokens_for_each_parameter_are_told_by_those_of_the_dense_twins(
    tmp_path, monkeypatch, ratio, more
):
    asked = commands.values("expert_scaling", "full")
    assert asked["training.tokens_per_parameter"] == ["5.4"]
    monkeypatch.setattr(tables, "STUDIES", tmp_path)
    (tmp_path / "expert_scaling").mkdir()
    lines = ["seed,model,model.num_experts,id,status,tokens,parameters/active"]
    lines += [
        f"{seed},{model},{experts},x,done,{round(ratio * active)},{active}"
        for seed in asked["seed"]
        for model, active in zip(asked["model"], (10_000, 100_000, 100_000), strict=True)
        for experts in asked["model.num_experts"]
    ]
    (tmp_path / "expert_scaling" / "results.csv").write_text("\n".join(lines))
    start = "python run.py -m experiment=expert_scaling"
    assert commands.line("expert_scaling") == f"{start}/full{more}"


def test_a_rule_of_the_learning_rate_is_answered_once_it_was_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "STUDIES", tmp_path)
    folder = tmp_path / "learning_rate"
    shutil.copytree(ROOT / "experiments" / "learning_rate", folder)
    head = "width,regret,above_best_of_scan"
    (folder / "regret.csv").write_text(f"{head}\n48,0.0040,0.0100\n64,0.0010,0.0020\n")
    for gain, word in ((-0.03, "Yes"), (-0.01, "No"), (0.03, "No")):
        rows = [f"{seed},{gain + seed / 1000:.4f}" for seed in range(5)]
        (folder / "default_run.csv").write_text("\n".join(["seed,difference", *rows, "mean,x"]))
        assert claim("learning_rate").word == word


def test_the_law_is_accepted_as_its_file_says(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "STUDIES", tmp_path)
    told = json.loads((ROOT / "experiments" / "scaling_law" / "law.json").read_text())
    (tmp_path / "scaling_law").mkdir()
    for accepted, word in ((True, "Yes"), (False, "No")):
        (tmp_path / "scaling_law" / "law.json").write_text(
            json.dumps(told | {"accepted": accepted})
        )
        assert claim("scaling_law").word == word
