"""What Hydra, OmegaConf and the YAML reader refuse, in one line: key or file, value, way out."""

import re
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from glam.composition.aliases import meant_by
from glam.composition.keys import all_keys, known_keys, sections
from glam.composition.overrides import CONF, choices, groups
from glam.composition.schema import classes_by_node
from glam.config import ROOT
from glam.errors import UserError, nearest

REFUSALS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
# How Hydra reports a file that it cannot merge, and OmegaConf the key.
IN_A_FILE = re.compile(r"In '(?P<config>[^']+)': (?:\w+ raised while composing config:\s*)?")
FULL_KEY = re.compile(r"full_key: (\S+)")
EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list of str": "a list, as [one,two] or [one]",
    "list of int or str": "whole numbers, as 0,1,8",
}


def explain_hydra_error(error: Exception, arguments: list[str]) -> str:
    """One line about `error`, one of REFUSALS, which `arguments` led to."""
    if isinstance(error, yaml.YAMLError):
        return _explain_yaml(error)
    cause: Any = error
    while cause.__cause__ is not None and getattr(cause, "full_key", None) is None:
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return str(cause)
    reason = str(cause).splitlines()[0].rstrip(".")
    if in_file := IN_A_FILE.match(str(cause)):
        return _explain_file(in_file["config"], str(cause)[in_file.end() :])
    if reason.startswith("Ambiguous value"):
        return f"{reason.split(chr(39))[1]}: several values make a grid; put -m before them"
    key = getattr(cause, "full_key", None)
    if not key:
        return f"{reason}; python run.py --help lists keys and choices"
    typed = [a for a in arguments if a.lstrip("+").split("=")[0] == key]
    where = typed[0] if typed else key
    if "Key '" in reason:
        return f"{where}: {_no_such_key(key, getattr(cause, 'object_type', None))}"
    return f"{where}: {_expected(key, reason)}"


def _no_such_key(key: str, kind: Any) -> str:
    """Why there is no `key` in the class `kind` that the choices made here put in its place."""
    section, _, name = key.rpartition(".")
    if isinstance(known_keys().get(section), dict):
        return f"{section} has no {name}; other axes need a file of their own in conf/hardware"
    having = [other for other in all_keys() if other.name == key]
    here = [other.kind for other in all_keys() if other.section == section]
    if not having or kind not in here:
        return f"there is no key {key}; {meant_by(key, groups())}"
    group = section.replace(".", "/")
    others = " or ".join(f"{group}={_choice(one.kind)}" for one in having)
    return f"{group}={_choice(kind)} has no {name}; add {others}"


def _choice(kind: type[Any]) -> str:
    """The choice of a group that brings a class."""
    return str(kind().name)


def _expected(key: str, reason: str) -> str:
    """What a value of `key` looks like, where `reason` is that it looks otherwise."""
    declared = next((one for one in all_keys() if one.name == key), None)
    if declared is None:
        if key in sections():
            return f"{key} is a section; set one of its keys, as --help {key} lists them"
        return reason
    if isinstance(declared.default, dict):
        return f"a mapping is expected, for example '{key}={{axis:2}}', in quotes"
    kind, _, null = declared.type_name.partition(" or ")
    words = EXPECTED.get(kind, kind) + (f", or {null}" if null else "")
    if isinstance(declared.default, list):
        return f"{words}, is expected"
    if declared.default is None:
        return f"{words}, is expected" + (f" (unit: {declared.unit})" if declared.unit else "")
    default = declared.default
    shown = str(default).lower() if isinstance(default, bool) else default
    return f"{words} is expected, for example {key}={shown}"


def _explain_file(config: str, reason: str) -> str:
    """About a file of `conf/` that does not fit the schema."""
    file = (CONF / f"{config}.yaml").relative_to(ROOT)
    first = reason.splitlines()[0].rstrip(".")
    key = found[1] if (found := FULL_KEY.search(reason)) else ""
    if missing := re.match(r"Could not load '(?P<group>.+)/(?P<name>[^/]+)'", first):
        group, name = missing["group"], missing["name"]
        return f"{file}: there is no {group}/{name}.yaml; {nearest(name, choices(group))}"
    if merged := re.match(r"Merge error: (?P<found>\w+) is not a subclass of (?P<kind>\w+)", first):
        section = next(k.section for k in all_keys() if k.kind.__name__ == merged["kind"])
        return f"{file}: {section} needs keys and values, not a {merged['found']}"
    if "Key '" in first and key == "experiment":
        return f"{file}: its first line must be `# @package _global_`, as in the other experiments"
    if "Key '" in first:
        group = key.rpartition(".")[0]
        kind = next((k.kind for k in all_keys() if k.kind.__name__ in first), None)
        words = _no_such_key(key, kind if group in classes_by_node() else None)
        return f"{file}: {words}"
    return f"{file}: {key}: {_expected(key, first)}" if key else f"{file}: {first}"


def _explain_yaml(error: yaml.YAMLError) -> str:
    mark: Any = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if mark is None:
        return f"a file of conf/ is not YAML: {problem}"
    file = str(mark.name).strip('"').removeprefix(f"{ROOT}/")
    return f"{file}, line {mark.line + 1}: not YAML ({problem}); mend it, or quote the value"
