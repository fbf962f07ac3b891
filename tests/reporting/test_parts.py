"""What stands behind the figures and the words."""

import csv
import dataclasses
import io
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console

from glam.config import AdafactorConfig, RunConfig, StudyConfig
from glam.reporting import print_summary
from glam.reporting.curves import smoothed
from glam.reporting.experts import specialisation
from glam.reporting.funnel import sources
from glam.reporting.reproduce import SECTIONS, command, study_command
from glam.reporting.theme import KNOWN_DOMAINS, PAGE, spread
from glam.runs.record import Record
from glam.units import duration, energy, fixed, percent, si, signed, ticks

WriteRun = Callable[..., Path]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.7, "1.00 k"),
        (12_345, "12.3 k"),
        (5_000_192, "5.00 M"),
        (-1500, "-1.50 k"),
        (0.0123, "0.0123"),
        (9.999, "10.0"),
        (1.7e12, "1.70 T"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
    ],
)
def test_numbers_have_three_significant_digits_and_a_prefix(value: Any, text: str) -> None:
    assert si(value).replace("\u00a0", " ") == text


def test_units_read_as_people_say_them() -> None:
    said = [
        duration(4.21),
        duration(125),
        duration(3 * 3600 + 240),
        energy(12_300),
        percent(0.123),
    ]

    assert [text.replace("\u00a0", " ") for text in said] == [
        *("4.2 s", "2 min 05 s", "3 h 04 min", "12.3 kJ (3.42 Wh)", "12.3 %"),
    ]
    assert signed(-0.05) == "−0.050"
    assert fixed(None) == "–"
    assert ticks(2_500_000) == "2.5\u00a0M"
    assert ticks(100) == "100"


def test_labels_stand_apart_in_their_order_and_within_the_axes() -> None:
    random = np.random.default_rng(0)
    for count in range(1, 12):
        wanted = random.uniform(0, 1, count).tolist()

        placed = spread(wanted, 0.08, 0.0, 1.0)

        assert np.argsort(placed).tolist() == np.argsort(wanted).tolist()
        assert np.diff(sorted(placed)).min(initial=1) >= 0.08 - 1e-9
        assert min(placed) >= 0
        assert max(placed) <= 1 + 1e-9


def test_labels_that_are_far_apart_stay_where_they_are() -> None:
    assert spread([0.9, 0.1, 0.5], 0.1, 0, 1) == pytest.approx([0.9, 0.1, 0.5])


def test_labels_that_do_not_fit_stand_evenly() -> None:
    assert spread([0.5] * 5, 10, 0, 1) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_the_average_moves_with_the_curve_and_not_behind_it() -> None:
    line = np.linspace(10, 0, 400)

    assert smoothed(line)[20:-20] == pytest.approx(line[20:-20])
    assert smoothed(np.array([3.0])) == pytest.approx([3.0])


def test_domains_that_share_no_expert_are_wholly_apart() -> None:
    alike = np.ones((3, 4))
    own = np.array([[2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0]])

    assert specialisation(alike) == 0
    assert specialisation(own) == pytest.approx(0.5)


def test_loads_are_over_the_mean_and_in_the_order_of_experts(tmp_path: Path) -> None:
    names = ["tokens", *(f"load/1/{e}" for e in (10, 2, 1, 0, 3, 4, 5, 6, 7, 8, 9))]
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerow([0, *[""] * 11])
        writer.writerow([100, 10, 2, 1, 0, 3, 4, 5, 6, 7, 8, 9])

    tokens, loads = Record.read(tmp_path).metrics.load()

    assert tokens.tolist() == [100]
    assert loads["1"].tolist() == [[11.0 * e for e in range(11)]]


def test_each_step_is_measured_by_its_text_against_the_step_that_fed_it() -> None:
    rows = [
        {"source": "web", "step": "read", "documents": 200, "characters": 1000},
        {"source": "books", "step": "read", "documents": 10},
        {"source": "web", "step": "held out", "documents": 20, "characters": 100},
        {"source": "web", "step": "pages", "documents": 600, "characters": 900, "tokens": 300},
        {"source": "web", "step": "kept", "documents": 150, "characters": 225, "tokens": 75},
    ]

    web, books = sources(rows)

    assert [step.share for step in web.steps] == [None, 0.1, 0.9, 0.25]
    assert [step.name for step in books.steps] == ["read"]


def test_a_study_is_reproduced_by_one_command_that_needs_no_nested_quotes(write_run: WriteRun):
    records = [Record.read(write_run(experts=experts, seed=0)) for experts in (1, 8)]
    swept = {"model.num_experts": [1, 8]}
    said = study_command("num_experts+seed-c3253f", records, swept, StudyConfig())
    assert said.endswith(" model.num_experts=1,8 study.name=num_experts+seed-c3253f")
    value = OverridesParser.create().parse_override(said.split()[-1]).value()
    assert value == "num_experts+seed-c3253f"


def test_the_command_gives_the_configuration_back(write_run: WriteRun) -> None:
    run = write_run(experts=8, seed=3)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["optimizer"] = dataclasses.asdict(AdafactorConfig(learning_rate=0.05))
    config["data"]["corpus"]["sources"] = ["speeches", "it's mine, $HOME"]
    config["model"]["d_head"] = 32
    (run / "config.yaml").write_text(yaml.safe_dump(config))

    words = shlex.split(command(Record.read(run)))

    rebuilt = {section: dataclasses.asdict(RunConfig())[section] for section in SECTIONS}
    rebuilt["optimizer"] = dataclasses.asdict(AdafactorConfig())
    assert words[:2] == ["python", "run.py"]
    parser = OverridesParser.create()
    for override in map(parser.parse_override, words[2:]):
        if override.key_or_group == "optimizer":
            rebuilt["optimizer"]["name"] = override.value()
            continue
        *path, leaf = override.key_or_group.split(".")
        place = rebuilt
        for name in path:
            place = place.setdefault(name, {})
        value = override.value()
        place[leaf] = value if isinstance(value, (int, float, bool, list)) else str(value)
    assert rebuilt.pop("hardware") == {"threads": 1, "precision": "bfloat16"}
    assert rebuilt == {section: config[section] for section in SECTIONS}


def test_the_terminal_shows_every_domain_and_where_the_report_lies(write_run: WriteRun) -> None:
    summary = Record.read(write_run()).summary
    out = io.StringIO()

    print_summary(summary, Path("runs/x/report.html"), Console(file=out, width=100))

    shown = out.getvalue()
    assert all(name in shown for name in summary["loss"])
    assert "3.936" in shown
    assert "28,413 tokens/s" in shown
    assert "modelled: 15 W" in shown
    assert "runs/x/report.html" in shown


def test_the_terminal_bears_a_run_that_diverged(write_run: WriteRun) -> None:
    summary = Record.read(write_run(diverged=True)).summary
    out = io.StringIO()

    print_summary(summary, Path("[red]x"), Console(file=out, width=100))

    assert "diverged" in out.getvalue()
    assert "[red]x" in out.getvalue(), "a path is no markup"


def test_printing_a_summary_imports_nothing_heavy() -> None:
    code = (
        "import sys, glam.reporting; "
        "print([m for m in ('matplotlib', 'numpy', 'jinja2', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_reporting_knows_no_training() -> None:
    code = (
        "import sys, glam.reporting.run, glam.reporting.study; "
        "print([m for m in ('torch', 'lightning', 'hydra', 'wandb', 'matplotlib.pyplot')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_domain_has_its_colour_whatever_others_a_run_lacks() -> None:
    every = PAGE.domains([*KNOWN_DOMAINS, "mine"])

    assert len(set(every.values())) == len(KNOWN_DOMAINS) + 2  # theirs, mine, and ink
    assert every["mean"] == PAGE.ink
    for name in every:
        assert PAGE.domains([name])[name] == every[name]


def test_a_finished_curve_ends_at_the_losses_of_the_table(write_run: WriteRun) -> None:
    record = Record.read(write_run())

    for name in ("mean", "tweets"):
        tokens, losses = record.held_out(name)
        measured = record.metrics.curve(f"held_out/{name}")
        assert (tokens[-1], losses[-1]) == (record.summary["tokens"], record.part("loss")[name])
        assert losses[:-1].tolist() == measured[1][measured[0] < tokens[-1]].tolist()


def test_a_diverged_curve_stays_as_it_was_measured(write_run: WriteRun) -> None:
    record = Record.read(write_run(diverged=True))

    assert record.held_out("mean")[1].tolist() == record.metrics.curve("held_out/mean")[1].tolist()
