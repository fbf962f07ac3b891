"""What a user types: every mistake is one line with the way out, and nothing is written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glam.cli import main
from glam.composition import overrides
from glam.composition.overrides import check_line
from glam.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        **kwargs,
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model.num_expert=3", "did you mean model.num_experts"),
        ("+model.typo=1", "there is no key model.typo"),
        ("+num_experts=3", "did you mean model.num_experts?"),
        ("model=glam_1b64", "did you mean glam_1b64e"),
        ("optim=adamw", "did you mean optimizer"),
        ("experiment=nothing", "experiment=nothing: no such choice"),
        ("model.router=3", "is a section; set one of its keys"),
        ("~model.num_experts", "nothing may be left out"),
        ("--multi-run", "did you mean --multirun"),
        ("nonsense", "expected key=value"),
        ("train", "for example task=train"),
        ("glam_mini", "for example model=glam_mini"),
        ("help", "or the option --help"),
        ("--model.num_experts=8", "a key has no dashes: model.num_experts=..."),
        ("--runs-dir", "a key has no dashes: runs_dir=..."),
        ("--lr=0.1", "a key has no dashes; did you mean optimizer.learning_rate?"),
        ('model.name="a=b', "cannot be read"),
        ("model=null", "no such choice"),
        ("hydra/sweeper=basic", "of Hydra's own keys only hydra/launcher"),
        ("model=glob(glom_*)", "model=glom_*: no such choice"),
        ("hydra.launcher.timeout_min=-5", "hydra.launcher.timeout_min=-5 must be positive"),
        ("hydra.launcher.mem_gb=0", "hydra.launcher.mem_gb=0 must be positive"),
        ("hardware.rules={}", "hardware.rules={} changes nothing"),
        ("hydra.mode=MULTIRUN", "of Hydra's own keys only hydra/launcher"),
        ("optimizer.lr=0.1", "did you mean optimizer.learning_rate?"),
        ("=3", "there is no key"),
        ("--experimental-rerun=x", "no such option"),
        ("--cfg", "expected one argument"),
        ("-c", "expected one argument"),
        ("-cd", "configurations lie in conf/"),
        ("-cn=other", "configurations lie in conf/"),
        ("--config-path=/tmp", "configurations lie in conf/"),
        ("-sc", "no such option"),
        ("--resolve", "goes with --cfg job"),
        ("hydra.verbose=3", "hydra.verbose=3 must be true or false"),
        (
            "data.corpus.name=embedded",
            "type data/corpus=<choice>, one of embedded, hub, hub_paper, local",
        ),
        ("optimizer.name=adafactor", "type optimizer=<choice>"),
        ("+schedule.name=paper", "type schedule=<choice>"),
        ("task.name=generate", "type task=<choice>"),
        ("run=a=b", """quote the value, which has =: 'run="a=b"'"""),
        ("run=a;b", """quote the value, which has ;: 'run="a;b"'"""),
        ("seed=1" + 5000 * "0", "a number of more than 100 digits"),
        ("runs_dir=caf\udce9", r"runs_dir=caf\udce9: not UTF-8 (at character 13)"),
    ],
)
def test_a_line_that_names_nothing_is_refused_with_the_nearest_name(line, words):
    with pytest.raises(UserError) as refused:
        check_line([line])
    assert words in str(refused.value)
    assert line.split("=")[0] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_value_with_spaces_needs_quotes():
    with pytest.raises(UserError, match=r"spaces: 'task\.prompt=The people'"):
        check_line(["task=generate", "task.prompt=The", "people"])


def test_a_launcher_is_for_grids_and_names_the_package_it_needs(monkeypatch):
    def refusal(*line: str) -> str:
        with pytest.raises(UserError) as refused:
            check_line(list(line))
        return str(refused.value)

    monkeypatch.setattr(overrides.importlib.util, "find_spec", lambda name: None)
    said = refusal("-m", "hydra/launcher=submitit_slurm")
    assert "the package submitit, which is not installed; .venv/bin/python -m pip" in said
    said = refusal("-m", "hydra/launcher=ray")
    assert "needs the package ray, which is not installed" in said
    assert "-e '.[ray]' brings it" in said
    assert "did you mean submitit_slurm" in refusal("-m", "hydra/launcher=submitit")
    assert "put -m before it" in refusal("hydra/launcher=isolated", "seed=1")
    check_line(["-m", "hydra/launcher=isolated", "seed=1,2"])
    check_line(["-m", "hydra.launcher.stderr_to_stdout=false", "hydra.launcher.gpus_per_node=0"])


@pytest.mark.parametrize("ends", ["nan,3", "0,inf", "0,3,nan", "0,3,0"])
def test_a_range_has_a_start_a_stop_and_a_step(ends):
    with pytest.raises(UserError, match=r"a range needs a start, a stop and a step"):
        check_line(["-m", f"optimizer.learning_rate=range({ends})"])
    with pytest.raises(UserError, match=r"makes a grid of 1,000,000,000,000,000,000 cells"):
        check_line(["-m", "optimizer.learning_rate=range(0,1e300,1e-300)"])


def test_a_package_that_is_shown_is_a_section_or_a_value():
    for package in ("model", "model.router", "seed", "_global_", "hydra.run"):
        check_line(["--cfg", "all", "--package", package])
    for absent in ("nosuch", "model.nosuch", "study.name", "hydraulic"):
        with pytest.raises(UserError, match=f"there is no section {absent}"):
            check_line(["--cfg", "job", "--package", absent])


def test_known_keys_choices_and_sweeps_pass():
    check_line(["-m", "model=glam_tiny,glam_100m", "model.num_experts=8,16", "hydra.verbose=true"])
    check_line(["-m", "model=glob(glam_*)", "task=plan", "+hardware.mesh.expert=8"])
    check_line(["data/corpus=local", "data.corpus.files=[a.txt]", "optimizer.beta1=0.5"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["seed=range(0,1000000000)"], "makes a grid of 1,000,000,000 cells"),
        (["seed=range(0,20000000)"], "20,000,000 cells"),
        (["seed=shuffle(range(0,20000000))"], "20,000,000 cells"),
        (["seed=1,2", "seed=3,4"], "seed=1,2: seed is typed twice"),
        (["seed=1,2", "+seed=3"], "seed=1,2: seed is typed twice"),
        (["runs_dir=a,b"], "a grid has one runs_dir"),
        (["logger=csv,none"], "a grid has one logger"),
        (["task=plan,list"], "a grid has one task"),
        (["seed=range(0,1,0)"], "a range needs a start, a stop and a step"),
        (["seed=range(0,1000)", "model.num_experts=1,2,3,4,5,6,7,8,9,10,11"], "11,000 cells"),
    ],
)
def test_a_grid_that_no_one_means_is_refused_before_it_is_listed(line, words):
    with pytest.raises(UserError, match=words):
        check_line(["-m", *line])
    check_line(["-m", "seed=range(0,100)", "model.num_experts=choice(8,16)"])


@pytest.mark.parametrize("line", [["--cfg", "job", "-m"], ["-m", "--info"], ["-r", "--multirun"]])
def test_two_commands_of_hydra_are_refused(line):
    with pytest.raises(UserError, match="are two commands"):
        check_line(line)


@pytest.mark.parametrize("value", ["a\nb", "a\r\n\tb", "\x1b[31mred", "a\u2028b"])
def test_a_refusal_stands_on_one_line_whatever_the_value_holds(value, capsys):
    assert main([f"model.typo{value}=3"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.removesuffix("\n").isprintable()


def test_a_path_that_cannot_be_used_is_refused_by_its_name(monkeypatch, capsys):
    def loop(arguments):
        raise OSError(errno.ELOOP, "Too many levels of symbolic links", "/a/b")

    monkeypatch.setattr("glam.cli._run", loop)
    assert main(["seed=1"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "error: /a/b: Too many levels of symbolic links; name another path, or mend it\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["model.num_experts=abc"], "model.num_experts=abc"),
        (["model.num_experts=1.5"], "1.5 is not a whole number; did you mean 1 or 2?"),
        (["data.corpus.files=[a.txt]"], "add data/corpus=local"),
        (["model.num_layers=100M"], "must lie between 1 and 100000"),
        (["task=report", "study=none"], "study=none is no study"),
        (["task=generate", "study=none"], "names a study's folder, for task=report"),
        (["task=train", "run=latest"], "run=latest is for task=evaluate, analyze"),
        (["task=generate", "run="], "run= is empty"),
        (["task=generate", "run=latest"], "there is no finished run in"),
        (["model.top_k=17"], "model.top_k=17 but model.num_experts=16"),
        (["optimizer=adafactor", "optimizer.beta1=0.3"], "optimizer.beta1=0.3"),
        (["optimizer.learning_rate=-1"], "must be positive"),
        (["model.num_experts=1,2"], "put -m before them"),
        (["task=generate"], "task=generate needs run="),
        (["task=evaluate", "run=nowhere"], "run=nowhere is no run folder"),
        (["-m", "model.num_experts=8,abc"], "model.num_experts=abc"),
        (["-m", "model.num_experts=4,16", "model.top_k=8"], "model.top_k=8"),
        (["-m", "task=generate,report", "run=x"], "a grid trains"),
        (["runs_dir=/proc/nothing"], "runs_dir=/proc/nothing"),
    ],
)
def test_a_refused_line_is_one_line_and_status_two(line, words, tmp_path):
    line = [*line, f"cache_dir={tmp_path / 'cache'}"]
    if not any(word.startswith("runs_dir") for word in line):
        line.append(f"runs_dir={tmp_path / 'runs'}")
    result = run(*line, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    # On a slow machine the text takes longer to find than passes without a word.
    said = [line for line in result.stderr.splitlines() if not line.endswith("…")]
    assert len(said) == 1, result.stderr
    assert words in said[0]
    assert list(tmp_path.glob("runs/*")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [["--help"], ["task=plan"], ["task=plan", "task.format=json"], ["-m", "task=plan", "seed=0,1"]],
)
def test_a_reader_that_has_gone_is_no_failure(line, tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, str(ROOT / "run.py"), *line, f"runs_dir={tmp_path}"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=600)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_help_lists_every_group_and_key():
    result = run("--help")
    assert result.returncode == 0
    for word in ("glam_1b64e", "adafactor", "unfiltered", "num_experts=16", "checkpoint", "-m"):
        assert word in result.stdout


def test_an_interpreter_without_the_packages_is_told_the_right_one():
    """-S leaves the site-packages of any environment out."""
    result = subprocess.run(
        [sys.executable, "-S", str(ROOT / "run.py"), "--help"],
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "has no package" in result.stderr
    assert ".venv" in result.stderr
