"""The documentation builds without a warning, and what it says is so: commands are accepted, code
runs, names exist, and every key that a run writes is described."""

import ast
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from glam.analysis.paired import StudyRow
from glam.cli import main
from glam.composition import overrides
from glam.composition.compose import Composer
from glam.composition.normalize import normalized
from glam.composition.overrides import CONF, check_line
from glam.composition.schema import register
from glam.errors import UserError
from glam.reporting.study_table import as_csv
from glam.runs.folder import RunFolder
from glam.runs.study_folder import row
from glam.studies.budget import check_comparison
from hydra_plugins.glam_grid import sweeper
from tests.docs.pages import (
    ABSENT,
    DOCS,
    PAGES,
    ROOT,
    SHELL,
    Command,
    blocks,
    commands,
    files_to_save,
    first_cells,
    tables,
)

# Each once, at the first place where it stands.
COMMANDS = list({c.words: c for page in reversed(PAGES) for c in reversed(commands(page))}.values())
RUN = '"latest"'  # a run, in code
SMALL = [
    "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.num_experts=4",
    "model.vocab_size=300", "training.tokens=4096", "training.sequence_length=32",
    "training.batch_size=4", "evaluation.limit=10", "data.held_out_fraction=0.5",
    "evaluation.points=2", "evaluation.tokens_per_domain=1000",
    "evaluation.tokens_per_point=500", "data/corpus=local", "data=unfiltered", "logger=csv",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run that is done."""
    home = tmp_path_factory.mktemp("docs")
    lines = [json.dumps({"text": " ".join(f"{i * j % 89}" for j in range(60))}) for i in range(90)]
    (home / "web.jsonl").write_text("\n".join(lines) + "\n")
    places = [f"runs_dir={home / 'runs'}", f"cache_dir={home / 'cache'}"]
    text = f"data.corpus.files=[{home / 'web.jsonl'}]"
    line = [sys.executable, str(ROOT / "run.py"), *SMALL, *places, text]
    subprocess.run(line, check=True, capture_output=True, text=True, timeout=1200)
    [folder] = (home / "runs").glob("*/summary.json")
    return folder.parent


# Commands


class Lines:
    """Command lines, composed with the files of `conf` or of a copy of it."""

    def __init__(self, conf: Path) -> None:
        register()
        with initialize_config_dir(str(conf), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            self._loader = hydra.config_loader
        self._composers: dict[tuple[str, ...], tuple[Composer, dict[str, str]]] = {}

    def compose(self, arguments: list[str]) -> None:
        """Every cell of a line. Raises UserError where it is refused."""
        arguments = normalized([word for word in arguments if word not in ("--cfg", "job")])
        # Which program has the jobs is for the machine to say; its keys are checked all the same.
        check_line([word for word in arguments if not word.startswith("hydra/launcher=")])
        chosen = tuple(word for word in arguments if word.startswith(("hydra", "experiment=")))
        composer, params = self._composer(chosen)
        typed = [word for word in arguments if not word.startswith(("hydra", "-"))]
        lines, swept = sweeper.expand(params, typed, self._loader)
        cells = sweeper.cells_of(composer, lines, swept)
        if "-m" in arguments:
            check_comparison(cells)
        else:
            assert len(cells) == 1

    def _composer(self, chosen: tuple[str, ...]) -> tuple[Composer, dict[str, str]]:
        if chosen not in self._composers:
            master = self._loader.load_configuration("config", [*chosen], RunMode.MULTIRUN)
            params = dict(master.hydra.sweeper.params or {})
            self._composers[chosen] = Composer(self._loader, master), params
        return self._composers[chosen]


@pytest.fixture(scope="module")
def lines() -> Lines:
    return Lines(CONF)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def extras() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


def check(words: list[str], lines: Lines) -> None:
    """That a command is one that would be accepted."""
    program = words[0].removeprefix(".venv/bin/")
    match program, words[1:]:
        case "make", [*names]:
            makefile = (ROOT / "Makefile").read_text()
            given = {name for name in names if "=" in name}
            assert set(names) - given <= targets()
            assert all(f"\n{name.split('=')[0]} ?=" in makefile for name in given)
        case "python" | "torchrun", [*options, "run.py"]:
            assert program == "torchrun" or not options
        case "python" | "torchrun", rest if "run.py" in rest:
            arguments = rest[rest.index("run.py") + 1 :]
            if {"--help", "--version"} & set(arguments):
                assert main(arguments) == 0
            else:
                lines.compose(arguments)
        case "python", ["-m", "pip", "install", "-e", extra]:
            assert extra[2:-1] in extras()
        case "python", ["-m", module, *rest]:
            assert importlib.util.find_spec(module)
            assert all((ROOT / word).exists() for word in rest if "/" in word)
        case "python", ["-c", code]:
            ast.parse(code)
        case "wandb", [command, *_]:
            from wandb.cli.cli import cli

            assert command in cli.commands
        case "source", [".venv/bin/activate"]:
            pass
        case _:
            raise AssertionError(f"what is {words}?")


def name(command: Command) -> str:
    return f"{command.page}:{command.line} {command.words[:60]}"


def words(command: Command) -> list[str]:
    return shlex.split(re.sub(r"<\w+>", "one", command.words))


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.needs_file], ids=name)
def test_a_command_is_accepted_as_it_is_written(command: Command, lines: Lines):
    check(words(command), lines)


def test_a_command_about_a_file_of_the_page_is_accepted_when_the_file_is_there(
    tmp_path, monkeypatch
):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    saved = {file: text for page in PAGES for file, text in files_to_save(page)}
    for file, text in saved.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    monkeypatch.setattr(overrides, "CONF", conf)
    about = [command for command in COMMANDS if command.needs in saved]
    assert {command.needs for command in about} == set(saved)
    # Those of extend.md are composed with its files by its own test.
    assert {c.page for c in COMMANDS if c.needs_file and c not in about} <= {"extend.md"}
    lines = Lines(conf)
    for command in about:
        check(words(command), lines)


def test_commands_are_found_in_most_pages():
    assert len({command.page for command in COMMANDS}) >= 8
    assert len(COMMANDS) >= 50


def test_what_a_block_needs_is_something_that_a_machine_may_lack():
    needs = [block.needs for page in PAGES for block in blocks(page, *SHELL) if block.needs]
    assert needs
    assert [one for one in needs if not one.startswith(ABSENT)] == []


@pytest.mark.parametrize(
    "line",
    [
        "python run.py model.num_expert=3",
        "make rum",
        "python -m experiments.pared",
        "perl run.py",
    ],
)
def test_a_misspelt_command_is_not_accepted(line, lines):
    with pytest.raises((UserError, AssertionError)):
        check(shlex.split(line), lines)


# Code


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_the_python_of_a_page_runs(page, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {"run": run}
    for block in blocks(page, "python"):
        code = block.text.replace(RUN, repr(str(run)))
        exec(compile(code, f"{page.name}:{block.line}", "exec"), known)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    text = (DOCS / "tutorial.ipynb").read_text(encoding="utf-8")
    for folder in ("runs/tutorial", "cache/tutorial"):  # not into those of whoever tests
        assert folder in text
        text = text.replace(folder, str(tmp_path / folder))
    notebook = nbformat.reads(text, as_version=4)
    client.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": DOCS}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx_book_theme")
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--builder", "html"]
    line = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path)]
    built = subprocess.run(line, capture_output=True, text=True, timeout=500)
    assert built.returncode == 0, built.stderr
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    pages = {page.stem for page in [*DOCS.glob("*.md"), *DOCS.glob("*.ipynb")]} - {"index"}
    assert [page for page in sorted(pages) if f'href="{page}.html"' not in index] == []


# Names


def names_in(file: Path) -> set[str]:
    """Classes, functions and methods that a file defines."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_files_that_a_page_names_exist(page):
    named = set(re.findall(r"`((?:glam|hydra_plugins|conf|tests)/[\w./]+\.\w+)`", page.read_text()))
    to_save = {file for file, _ in files_to_save(page)}
    assert [name for name in sorted(named - to_save) if not (ROOT / name).is_file()] == []


def walk_rows() -> Iterator[tuple[str, str]]:
    page = DOCS / "architecture.md"
    for heading in re.findall(r"^## Walk .*", page.read_text(), re.MULTILINE):
        for file, function, _ in tables(page, heading):
            if file != "file":
                yield file.strip("`"), function.strip("`")


def test_the_walks_name_what_is_there():
    rows = list(walk_rows())
    assert len(rows) > 30
    assert [row for row in rows if row[1] not in names_in(ROOT / row[0])] == []


def test_the_picture_of_the_floors_shows_every_package():
    picture = (DOCS / "_static" / "floors.svg").read_text()
    shown = set(re.findall(r'font-weight="600">(\w+)<', picture))
    glam = ROOT / "glam"
    packages = {file.parent.name for file in glam.glob("*/__init__.py")}
    modules = {file.stem for file in glam.glob("*.py")} - {"__init__", "load"}
    assert shown == packages | modules


def test_every_experiment_has_its_page():
    experiments = {file.parent.name for file in ROOT.glob("experiments/*/README.md")}
    assert {file.stem for file in DOCS.glob("experiments/*.md")} == experiments
    results = (DOCS / "results.md").read_text()
    assert [name for name in experiments if f"(experiments/{name}.md)" not in results] == []


# What a run leaves


def flat(value: Any, name: str = "") -> Iterator[str]:
    """The keys of nested mappings and lists of them, as `parameters.total` and `load[].layer`."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from flat(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from flat(value[0], f"{name}[]")
    else:
        yield name


def undescribed(keys: list[str], heading: str) -> tuple[list[str], list[str]]:
    """Keys that the page does not describe, and those it describes that are not there."""
    described = first_cells(DOCS / "outputs.md", heading)
    patterns = {name: re.sub(r"<\w+>", r".+", re.escape(name)) for name in described}
    matched = {key: [n for n, p in patterns.items() if re.fullmatch(p, key)] for key in keys}
    seen = {name for names in matched.values() for name in names}
    return [key for key, names in matched.items() if not names], sorted(set(described) - seen)


@pytest.mark.slow
def test_every_key_of_a_summary_is_described_and_every_described_key_is_written(run):
    summary = json.loads((run / "summary.json").read_text())
    assert undescribed(list(flat(summary)), "## summary.json") == ([], [])


@pytest.mark.slow
def test_every_phase_of_a_run_is_described_and_all_together_are_its_time(run):
    seconds = json.loads((run / "seconds.json").read_text())
    assert undescribed(list(seconds), "## seconds.json") == ([], [])
    summary = json.loads((run / "summary.json").read_text())
    assert seconds["training"]["wall"] == pytest.approx(summary["train_seconds"], rel=0.2, abs=0.5)
    assert {one["times"] > 0 for name, one in seconds.items() if name != "sha256"} == {True}


@pytest.mark.slow
def test_every_column_of_the_metrics_is_described(run):
    header = (run / "metrics.csv").read_text().split("\n")[0].split(",")
    assert undescribed(header, "## metrics.csv") == ([], [])


@pytest.mark.slow
def test_every_file_of_a_run_is_listed(run):
    listed = first_cells(DOCS / "outputs.md", "## The folder of a run")
    assert [file.name for file in run.iterdir() if file.name not in listed] == []


@pytest.mark.slow
def test_every_key_of_a_manifest_is_described(run):
    [manifest] = run.glob("checkpoints/*/manifest.json")
    assert undescribed(list(json.loads(manifest.read_text())), "## Checkpoints") == ([], [])


@pytest.mark.slow
def test_every_column_of_a_studys_table_is_described(run):
    [header, _, *_] = as_csv([StudyRow.of(row(run, {"seed": 0}))], ["seed"]).split("\n")
    columns = [name for name in header.split(",") if name != "seed"]
    assert undescribed(columns, "### study.csv") == ([], [])


def test_every_key_of_a_failure_is_described(tmp_path):
    RunFolder(tmp_path).write_failure("OSError: no space")
    written = json.loads((tmp_path / "failure.json").read_text())
    assert undescribed(list(written), "## failure.json") == ([], [])
