"""The command line, checked against the schema before Hydra composes: a misspelt key or choice is
refused with the nearest name, also where Hydra's `+` would accept it."""

import functools
import importlib.util
import math
import re
import shutil
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glam.composition.aliases import ALIASES, meant_by
from glam.composition.keys import known_keys
from glam.composition.schema import classes_by_node
from glam.config import LAUNCHERS, ROOT, unencodable
from glam.errors import UserError, nearest

CONF = ROOT / "conf"
EXPERIMENT = "experiment"  # a group whose choices lie in folders: expert_scaling/quick
LAUNCHER_OF_HYDRA = "basic"  # one run after the other, in this process
MOST_DIGITS = 100  # of a number; Hydra can turn longer ones into no value
HUGE = re.compile(rf"(?<![\w.])[+-]?\d[\d_]{{{MOST_DIGITS},}}(?!\w)")
LARGEST = 1e9  # of a launcher's number
MOST_CELLS = 10_000  # of a grid
MAY_BE_ZERO = ("verbose", "gpus_per_node", "gpus_per_task", "max_num_timeout", "max_retries")
OF_A_GRID = ("study.compares", "study.baseline", "study.budget")
COMMANDS = (("--cfg", "-c"), ("--run", "-r"), ("--multirun", "-m"), ("--info", "-i"))
FLAGS = (
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--package", "-p"),
    *(flag for flags in COMMANDS for flag in flags),
)
# Hydra's, for configurations that lie elsewhere: what is composed here lies in conf/.
ELSEWHERE = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
# Keys that a grid has one value of: they make no run another.
OF_ALL_CELLS = ("logger", "study", "runs_dir", "cache_dir", "log_level", "rerun", "run")


@functools.cache
def groups() -> list[str]:
    """Names of the config groups, as the folders under conf/ say."""
    folders = {p.relative_to(CONF).as_posix() for p in CONF.rglob("*") if p.is_dir()}
    return sorted(name for name in folders if not name.startswith(f"{EXPERIMENT}/"))


def choices(group: str) -> list[str]:
    """Names of a group's files; those of the experiments with their folders."""
    folder = CONF / group
    files = folder.rglob("*.yaml") if group == EXPERIMENT else folder.glob("*.yaml")
    names = (f.relative_to(folder).with_suffix("").as_posix() for f in files)
    return sorted(name for name in names if not name.rpartition("/")[2].startswith("_"))


def is_override(argument: str) -> bool:
    """Whether the argument sets or removes a key, and is no flag such as `-m`."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def check_line(arguments: list[str]) -> None:
    """Raises UserError for an unknown flag, key or choice, and for a word that is no UTF-8."""
    for argument in arguments:
        if (place := unencodable(argument)) is not None:
            shown = argument.encode("utf-8", "backslashreplace").decode()
            raise UserError(f"{shown}: not UTF-8 (at {place}); type it in UTF-8")
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument.startswith("-"):
            flag = argument.split("=")[0]
            if flag in ELSEWHERE:
                raise UserError(f"{argument}: configurations lie in conf/; add a file there")
            if flag not in FLAGS:
                raise UserError(f"{argument}: no such option; {_not_an_option(flag)}")
        elif is_override(argument):
            _check_override(argument)
        elif not any(argument in FLAGS for argument in arguments):
            raise UserError(f"{argument}: expected key=value, {_not_a_pair(argument, before)}")
    _check_flags(arguments)
    _check_experiment(arguments)
    _check_launches(arguments)
    if {"-m", "--multirun"} & set(arguments):
        overrides = [_parse(argument) for argument in arguments if is_override(argument)]
        _check_swept(
            [override for override in overrides if override.is_sweep_override()], overrides
        )
        _check_size(overrides)


def _not_an_option(flag: str) -> str:
    """The way out for an unknown option: keys are often typed with dashes, as elsewhere."""
    key = flag.lstrip("-").replace("-", "_")
    if key in known_keys() or key in groups():
        return f"a key has no dashes: {key}=..."
    if any(key in others for others in ALIASES.values()):
        return f"a key has no dashes; {meant_by(key, groups())}"
    hint = nearest(flag, FLAGS)
    return hint if hint.startswith("did you mean") else "python run.py --help lists the options"


def _not_a_pair(word: str, before: str) -> str:
    """The way out for a word alone, which follows the argument `before`."""
    if f"--{word}" in FLAGS:
        return f"or the option --{word}"
    if having := [group for group in groups() if word in choices(group)]:
        return f"for example {having[0]}={word}"
    if is_override(before) and not before.endswith("="):
        return f"and quotes around a value with spaces: '{before} {word}'"
    return "for example model.num_experts=8"


def _check_swept(swept: list[Override], overrides: list[Override]) -> None:
    """Refuse a key that makes no run another, and one that is swept and typed again."""
    keys = [override.get_key_element().lstrip("+") for override in overrides]
    for override in swept:
        key = override.get_key_element().lstrip("+")
        if key == "task":
            raise UserError(
                f"{override.input_line}: a grid has one task: a grid trains, or is planned with "
                f"task=plan; any other task is a line of its own, without -m"
            )
        if key.split(".")[0] in OF_ALL_CELLS:
            raise UserError(
                f"{override.input_line}: a grid has one {key}; give it one value, or start a grid "
                f"for each"
            )
        if keys.count(key) > 1:
            raise UserError(f"{override.input_line}: {key} is typed twice; give all values at once")


def _check_size(overrides: list[Override]) -> None:
    """Refuse a grid that no one means: it would be listed cell by cell first."""
    cells = 1
    for override in overrides:
        if override.is_sweep_override():
            cells *= _count(override)
        if cells > MOST_CELLS:
            raise UserError(
                f"{override.input_line} makes a grid of {cells:,} cells; {MOST_CELLS:,} is the most"
            )


def _count(override: Override) -> int:
    """How many values a swept key has."""
    value = override.value()
    if isinstance(value, RangeSweep):
        start, stop, step = value.start, value.stop, value.step
        if not step or start is None or stop is None or not math.isfinite(start + stop + step):
            raise UserError(f"{override.input_line}: a range needs a start, a stop and a step")
        return math.ceil(min(max(0.0, (stop - start) / step), 1e18))  # which may be infinite
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    return 1


def _check_flags(arguments: list[str]) -> None:
    """As Hydra's parser does, whose refusal is many lines."""

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{' '.join(arguments)}: {message}; python run.py --help lists the options")

    parser = get_args_parser()
    parser.error = refuse
    package = parser.parse_args(sorted(arguments, key=is_override)).package
    if package is not None and not _is_package(package):
        refuse(f"there is no section {package}")
    given = {argument.split("=")[0] for argument in arguments if argument.startswith("-")}
    several = [flags[0] for flags in COMMANDS if given.intersection(flags)]
    if len(several) > 1:
        raise UserError(f"{' and '.join(several)} are two commands; give one of them")
    alone = given & {"--resolve", "--package", "-p"}
    if alone and "--cfg" not in several:
        raise UserError(f"{alone.pop()} goes with --cfg job, which shows the configuration")


def _is_package(name: str) -> bool:
    """Whether `--package` can show it: a section, a value, or what is Hydra's own."""
    known = known_keys()
    in_section = any(key.startswith(f"{name}.") for key in known)
    return (
        in_section
        or known.get(name) is not None
        or re.match(r"(_global_|hydra)\b", name) is not None
    )


def _check_launches(arguments: list[str]) -> None:
    """Refuse a launcher for a single run, which Hydra would ignore."""
    launcher = [a for a in arguments if a.startswith("hydra/launcher=")]
    if launcher and not {"-m", "--multirun"} & set(arguments) and not _looks(arguments):
        raise UserError(f"{launcher[0]} launches grids, of one run too; put -m before it")


def _looks(arguments: list[str]) -> bool:
    return any(a.split("=")[0] in ("--cfg", "-c", "--info", "-i") for a in arguments)


def _check_experiment(arguments: list[str]) -> None:
    """Refuse an experiment without -m, unless the command is that of one of its cells."""
    chosen = {a.split("=")[0].lstrip("+"): a for a in arguments if is_override(a)}
    is_grid = bool({"-m", "--multirun"} & set(arguments))
    is_cell = "study.cell" in chosen or _looks(arguments)
    compares = next((chosen[key] for key in OF_A_GRID if key in chosen), None)
    if compares is not None and not is_grid and not is_cell:
        raise UserError(f"{compares} is about the runs of a grid; put -m before it")
    swept = next((chosen[k] for k in OF_A_GRID if k in chosen and _is_swept(chosen[k])), None)
    if swept is not None:
        raise UserError(f"{swept}: a study has one of these; give it one value")
    experiment = chosen.get(EXPERIMENT)
    if experiment is None or experiment == f"{EXPERIMENT}=null":
        return
    if _is_swept(experiment):
        raise UserError(f"{experiment}: one experiment at a time; each has a grid of its own")
    if not is_grid and not is_cell and _sweeps(experiment.partition("=")[2]):
        raise UserError(f"{experiment} is a grid of runs; put -m before it")


def _sweeps(experiment: str) -> bool:
    """Whether a file of conf/experiment/ sweeps a key, or builds on one that does. Another is a
    single run, or a grid by what else is typed."""
    try:
        file: Any = OmegaConf.load(CONF / EXPERIMENT / f"{experiment}.yaml")
        if OmegaConf.select(file, "hydra.sweeper.params"):
            return True
        bases = [str(one) for one in OmegaConf.select(file, "defaults") or ()]
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        return False  # which Hydra explains
    return any(_sweeps(b.removeprefix(f"/{EXPERIMENT}/")) for b in bases if b.startswith("/"))


def _is_swept(argument: str) -> bool:
    return _parse(argument).is_sweep_override()


def _check_override(argument: str) -> None:
    override = _parse(argument)
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra":
        # Folders, logging and the sweeper are ours; another would go past every check.
        if not key.startswith(("hydra/launcher", "hydra.launcher", "hydra.verbose")):
            raise UserError(f"{argument}: of Hydra's own keys only hydra/launcher may be set here")
        if key == "hydra.verbose" and not isinstance(override.value(), bool | str):
            raise UserError(f"{argument} must be true or false, or the name of a logger")
        if key == "hydra/launcher":
            _check_launcher(argument, str(override.value()))
        else:
            _check_launcher_key(argument, key.split(".")[-1], override.value())
        return
    if override.is_delete():
        raise UserError(f"{argument}: nothing may be left out; set the key to another value")
    if key in groups():
        for choice in _values(override):
            _check_choice(key, choice)
    else:
        _check_key(key, argument)
        if override.value() == {}:
            raise UserError(
                f"{argument} changes nothing: what is typed is added to what is there; another "
                f"{key} is a file of its own in conf/{key.split('.')[0]}/"
            )


def _check_launcher_key(argument: str, name: str, value: object) -> None:
    """Refuse numbers that submitit or Ray would refuse later, in worse words."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    least = -1 if name == "max_retries" else 0
    if not least <= value <= LARGEST or (value == 0 and name not in MAY_BE_ZERO):
        kind = "positive" if name not in MAY_BE_ZERO else f"{least} or more"
        raise UserError(
            f"{argument} must be {kind}, and at most {LARGEST:g}; leave it out, or give it a number"
        )


def _check_launcher(argument: str, name: str) -> None:
    if name == LAUNCHER_OF_HYDRA:
        return
    if name not in LAUNCHERS:
        raise UserError(
            f"{argument}: no such launcher; {nearest(name, [*LAUNCHERS, LAUNCHER_OF_HYDRA])}"
        )
    kind = LAUNCHERS[name]
    if kind.package is not None and importlib.util.find_spec(kind.package) is None:
        brings = f".venv/bin/python -m pip install -e '.[{kind.extra}]' brings it"
        raise UserError(
            f"{argument} needs the package {kind.package}, which is not installed"
            + (f"; {brings}" if kind.extra else "")
        )
    if kind.program is not None and shutil.which(kind.program) is None:
        raise UserError(
            f"{argument}: this machine has no {kind.program}; run it on a machine that has "
            f"it, or take hydra/launcher=isolated"
        )


def _parse(argument: str) -> Override:
    if HUGE.search(argument):
        raise UserError(f"{argument[:40]}…: a number of more than {MOST_DIGITS} digits")
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{argument}: cannot be read ({reason}); {_quoting(argument)}") from None


def _quoting(argument: str) -> str:
    """The way out for a value that Hydra cannot read: the same in quotes, and why."""
    key, _, value = argument.partition("=")
    special = dict.fromkeys(c for c in value if not c.isalnum() and c not in "_.-+/%@*?|")
    named = " ".join("space" if c == " " else c for c in special)
    inner = value.strip("'\"").replace("\\", "\\\\").replace('"', '\\"')
    quoted = f'{key}="{inner}"'.replace("'", "'\\''")
    return "quote the value" + (f", which has {named}" if named else "") + f": '{quoted}'"


def _check_choice(group: str, choice: object) -> None:
    if choice is None and group == "experiment":
        return
    if choice is None or str(choice) not in choices(group):
        raise UserError(f"{group}={choice}: no such choice; {nearest(str(choice), choices(group))}")


def _values(override: Override) -> Iterator[object]:
    value = override.value()
    if isinstance(value, Glob):
        names = value.filter(choices(override.key_or_group))
        yield from names or [", ".join(value.include)]
    elif override.is_sweep_override():
        yield from (str(v).strip("'\"") for v in override.sweep_string_iterator())
    else:
        yield override.value()


def _check_key(key: str, argument: str) -> None:
    known, (section, _, name) = known_keys(), key.rpartition(".")
    if name == "name" and section in classes_by_node():
        group = section.replace(".", "/")
        raise UserError(
            f"{argument}: the name of a choice is not set but chosen; type {group}=<choice>, one "
            f"of {', '.join(choices(group))}"
        )
    if key in known or isinstance(known.get(key.rpartition(".")[0]), dict):
        return
    sections = {name.rsplit(".", 1)[0] for name in known if "." in name}
    if key in sections:
        example = next(name for name in known if name.startswith(f"{key}."))
        raise UserError(f"{argument}: {key} is a section; set one of its keys, such as {example}")
    raise UserError(f"{argument}: there is no key {key}; {meant_by(key, groups())}")
