"""Two runs are the same run when nothing that determines the result differs."""

import shutil
from dataclasses import fields, replace
from typing import Any

import pytest
from config_fields import keys, value_of, with_value

from glam.config import (
    AdafactorConfig,
    AdamWConfig,
    ContaminationConfig,
    DataConfig,
    EvaluationConfig,
    FilterConfig,
    HardwareConfig,
    LoggerConfig,
    ModelConfig,
    RouterConfig,
    RunConfig,
    StudyConfig,
    TrainingConfig,
)
from glam.config.corpora import CORPORA
from glam.config.optimizers import OPTIMIZERS
from glam.config.optimizers.rate_rule import RateRule
from glam.config.schedules import SCHEDULES
from glam.machine.resources import Resources
from glam.runs.identity import (
    COMPUTES,
    DETERMINES_THE_RESULT,
    PACKAGE,
    SOURCES,
    code_fingerprint,
    run_id,
)

HERE = Resources(threads=1, precision="bfloat16", device="cpu", memory_bytes=8 << 30, cores=2)
DEFAULT = RunConfig()


@pytest.mark.parametrize(
    "config",
    [
        replace(DEFAULT, seed=1),
        replace(DEFAULT, model=ModelConfig(num_experts=8)),
        replace(DEFAULT, model=ModelConfig(router=RouterConfig(normalize=False))),
        replace(DEFAULT, data=DataConfig(filter=FilterConfig(name="none"))),
        replace(DEFAULT, optimizer=AdafactorConfig()),
        replace(DEFAULT, training=TrainingConfig(tokens=1024)),
        replace(DEFAULT, training=TrainingConfig(spike_window=64)),
        replace(DEFAULT, training=TrainingConfig(spike_threshold=None)),
        replace(DEFAULT, training=TrainingConfig(max_rollbacks=0)),
        replace(DEFAULT, training=TrainingConfig(rollback_every=100)),
    ],
)
def test_what_determines_the_result_changes_the_id(config):
    assert run_id(config, HERE) != run_id(DEFAULT, HERE)


@pytest.mark.parametrize(
    "config",
    [
        replace(DEFAULT, logger=LoggerConfig(name="csv")),
        replace(DEFAULT, study=StudyConfig(name="mine")),
        replace(DEFAULT, hardware=HardwareConfig(max_jobs=1)),
        replace(DEFAULT, rerun=True),
        replace(DEFAULT, runs_dir="elsewhere"),
        replace(DEFAULT, model=ModelConfig(name="other")),
        replace(DEFAULT, training=TrainingConfig(log_every=1, checkpoint_minutes=9)),
    ],
)
def test_what_does_not_determine_the_result_keeps_the_id(config):
    assert run_id(config, HERE) == run_id(DEFAULT, HERE)


def test_threads_and_precision_are_part_of_the_id_and_memory_is_not():
    ids = {
        run_id(DEFAULT, replace(HERE, threads=2)),
        run_id(DEFAULT, replace(HERE, precision="float32")),
        run_id(DEFAULT, HERE),
    }
    assert len(ids) == 3
    assert run_id(DEFAULT, replace(HERE, memory_bytes=1, cores=99)) == run_id(DEFAULT, HERE)


def test_the_default_run_keeps_its_id_from_version_to_version():
    # Changing a default is a breaking change: the same line is another run. Renew this
    # line only on purpose, and say so in CHANGELOG.md.
    assert run_id(DEFAULT, HERE) == "51313b0a02"


# The rule, field by field: whatever is in these sections decides the result, but for what is named
# below. A field that is added is asked about by itself; one that decides nothing is entered here.
DECIDING = {"model", "data", "optimizer", "schedule", "training", "seed"}
OBSERVING = {  # sections and keys of the top that decide no weight
    *("task", "hardware", "logger", "evaluation", "study", "export"),
    *("rerun", "run", "log_level", "runs_dir", "cache_dir"),
}
DECIDING_NOTHING = {
    "training.tokens_per_parameter",  # training.tokens is what it makes
    "model.init_from",  # model.init_digest is what it held
    *("model.name", "training.log_every", "training.checkpoint_minutes"),
    *("training.keep_checkpoints", "training.milestone_steps"),
    "data.contamination.report",
    # What a learning rate came from: the number decides.
    *(f"optimizer.auto.{field.name}" for field in fields(RateRule)),
    # How text is brought here, and how much of it may be bad.
    *(f"data.corpus.{name}" for name in ("max_bad_share", "folder", "keep_downloads")),
    *(f"data.corpus.{name}_{unit}" for name, unit in (("retry", "hours"), ("retry", "seconds"))),
    "data.corpus.timeout_seconds",
    # Who prepares it.
    *("data.executor", "data.workers"),
    *(f"data.slurm.{field.name}" for field in fields(DEFAULT.data.slurm)),
    *(f"data.ray.{field.name}" for field in fields(DEFAULT.data.ray)),
}
# At a rate that is typed: tests/config/test_rate_rule.py has that of the rule.
TYPED = replace(DEFAULT, optimizer=AdamWConfig(learning_rate=0.01))
CHOICES = [
    TYPED,
    *(replace(TYPED, optimizer=OPTIMIZERS[name](learning_rate=0.01)) for name in OPTIMIZERS),
    *(replace(TYPED, schedule=SCHEDULES[name]()) for name in SCHEDULES),
    *(replace(TYPED, data=DataConfig(corpus=CORPORA[name]())) for name in CORPORA),
]


def another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case str():
            return value + "x"
        case int() | float():
            return value + 1
        case list():
            return [*value, "x"]
        case dict():
            return {**value, "x": 1}
    return 7  # in place of None


def changed(config: RunConfig, key: str) -> RunConfig:
    return with_value(config, key, another(value_of(config, key)))


@pytest.mark.parametrize("config", CHOICES, ids=lambda c: f"{c.optimizer.name} {c.schedule.name}")
def test_every_field_that_decides_the_result_changes_the_id_and_no_other_does(config):
    ids = {key: run_id(changed(config, key), HERE) for key in keys(config)}
    same = {key for key, found in ids.items() if found == run_id(config, HERE)}
    expected = {key for key in ids if key.split(".")[0] not in DECIDING}
    expected |= DECIDING_NOTHING & ids.keys()
    assert same == expected
    others = [found for key, found in ids.items() if key not in same]
    assert len(set(others)) == len(others)  # no two fields stand for each other


def test_items_whose_overlap_is_removed_decide_the_result_and_others_do_not():
    def ids(remove: bool) -> set[str]:
        data = DataConfig(contamination=ContaminationConfig(remove=remove))
        suites = [EvaluationConfig(), EvaluationConfig(tasks=["agreement"])]
        suites.append(EvaluationConfig(name="lm_eval", tasks=["agreement"]))
        return {run_id(replace(DEFAULT, data=data, evaluation=one), HERE) for one in suites}

    assert len(ids(remove=True)) == 3
    assert ids(remove=False) == {run_id(DEFAULT, HERE)}


def test_a_section_is_known_to_decide_the_result_or_not_to():
    # One that is added is entered in one of the two, and in DETERMINES_THE_RESULT where it decides.
    assert {field.name for field in fields(RunConfig)} == DECIDING | OBSERVING
    assert set(DETERMINES_THE_RESULT) == DECIDING


def test_a_choice_is_told_from_another_by_its_name_alone():
    assert len({run_id(config, HERE) for config in CHOICES}) == len(CHOICES) - 3  # the defaults


def test_of_the_machine_only_what_rounds_otherwise_changes_the_id():
    found = {
        field.name: run_id(DEFAULT, replace(HERE, **{field.name: another(value)}))
        for field in fields(HERE)
        for value in [getattr(HERE, field.name)]
    }
    same = {name for name, one in found.items() if one == run_id(DEFAULT, HERE)}
    # What is compiled, as which kernels serve, is recorded (machine.kernels) and warned of.
    assert same == {"memory_bytes", "cores", "compiled"}


# Of each package that computes, a source that lies deepest; of the kernels, every file.
PACKAGES = sorted({file.parent.name for file in PACKAGE.glob("*/__init__.py")})
DEEPEST = [
    max(sorted((PACKAGE / name).rglob("*.py")), key=lambda file: len(file.parts))
    for name in PACKAGES
    if name in COMPUTES
]
KERNELS = [file for file in sorted(PACKAGE.glob("kernels/*")) if file.suffix in SOURCES]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The fingerprint of a copy of the package elsewhere, in which one file was changed."""

    def fingerprint(changed: str | None = None) -> str:
        copy = tmp_path / f"copy of {changed}"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if changed is not None:
            file = copy / changed
            assert file.is_file()
            file.write_bytes(file.read_bytes() + b"\n")
        with monkeypatch.context() as patch:
            patch.setattr("glam.runs.identity.PACKAGE", copy)
            return code_fingerprint()

    return fingerprint


@pytest.mark.parametrize(
    "file",
    [
        *(file.relative_to(PACKAGE).as_posix() for file in [*DEEPEST, *KERNELS]),
        "machine/processes.py",
    ],
)
def test_a_change_of_any_source_that_computes_changes_the_code_fingerprint(copied, file):
    assert copied(file) != copied()


@pytest.mark.parametrize(
    "file",
    [
        "reporting/templates/run.html.j2",
        "reporting/study.py",
        "machine/energy.py",
        "runs/folder.py",
    ],
)
def test_a_change_of_what_is_shown_or_counted_keeps_the_code_fingerprint(copied, file):
    assert copied(file) == copied()


def test_a_source_that_is_added_moved_or_split_changes_the_code_fingerprint(tmp_path, monkeypatch):
    def fingerprint(name, files):
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(content)
        monkeypatch.setattr("glam.runs.identity.PACKAGE", tmp_path / name)
        return code_fingerprint()

    rest = {"machine/processes.py": ""}
    found = [
        fingerprint("one", rest | {"model/a.py": "x", "model/b.py": "y"}),
        fingerprint("swapped", rest | {"model/b.py": "x", "model/a.py": "y"}),
        fingerprint("moved", rest | {"data/a.py": "x", "model/b.py": "y"}),
        fingerprint("joined", rest | {"model/a.py": "xy", "model/b.py": ""}),
        fingerprint("added", rest | {"model/a.py": "x", "model/b.py": "y", "kernels/c.inc": ""}),
    ]
    assert len(set(found)) == len(found)
    again = fingerprint("written in another order", {"model/b.py": "y", "model/a.py": "x", **rest})
    assert again == found[0]


def test_the_code_fingerprint_is_that_of_the_same_source_wherever_it_lies(copied):
    assert copied() == code_fingerprint()
    assert len(code_fingerprint()) == 16


def test_every_package_either_computes_or_is_known_not_to():
    # A new package is entered here or in COMPUTES; one that was renamed is missed in both.
    others = {"analysis", "cli", "composition", "machine", "planning", "reporting", "runs"}
    others |= {"studies", "tasks", "tracking", "export"}
    computing = {name for name in COMPUTES if "/" not in name}
    assert computing | others == set(PACKAGES)
    assert not computing & others
