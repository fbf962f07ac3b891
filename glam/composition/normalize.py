"""A command line as people type it, rewritten into keys and values that Hydra reads: old names of
keys, a study named by its folder, names of lm-eval's tasks in the place of a suite, lists without
brackets, and whole numbers such as `100k` or `1e5`."""

import re
from decimal import Decimal

from glam.composition.harness import check_tasks
from glam.composition.keys import integer_keys, text_keys
from glam.composition.overrides import choices, is_override
from glam.config import ROOT, typed_path
from glam.errors import UserError
from glam.log import log

MULTIPLES = {"": 0, "k": 3, "m": 6, "b": 9, "g": 9, "t": 12}  # powers of ten
LARGEST_EXPONENT = 18
NUMBER = re.compile(r"([+-]?(?:\d[\d_]*)?\.?\d*)(?:e([+-]?\d{1,4}))?([kmbgt]?)", re.IGNORECASE)
FREE_TEXT = ("task.prompt",)  # read as it stands, commas and brackets too
SPECIAL = re.compile(r"[,\[\]{}()'\"=]")
# Never a grid, with -m neither.
LISTS = ("evaluation.num_fewshot", "evaluation.tasks", "task.expert_scale")
SUITE_OR_TASKS = re.compile(r"[\w./+-]+(?:,[\w./+-]+)*")
PLAIN_WORD = re.compile(r"[\w./+:-]+", re.ASCII)
OF_ANOTHER_KEY = "study.baseline"  # read as the key is whose value it is
# What Hydra would read as a number or a boolean, and write otherwise (`1e3` as 1000.0), and what
# it does not read for a `~`: a whole value, or one of a list.
NO_WORD = re.compile(
    r"(?:(?<=[\[,(])|^)(?!\d+(?:$|[\],)]))"
    r"(?:[+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[+-]?\d+)?|[+-]?inf|nan|true|false"
    r"|[^][(){},'\"=\s]*~[^][(){},'\"=\s]*)"
    r"(?=$|[\],)])",
    re.IGNORECASE,
)
PLAIN = re.compile(r"[+-]?\d[\d_]*")


def normalized(arguments: list[str]) -> list[str]:
    """The same command line in today's keys and plain numbers. Raises UserError for a number with
    a fraction where a whole one is needed, and for an unknown task."""
    is_grid = bool({"-m", "--multirun"} & set(arguments))
    return [
        _normalized(read) if is_override(read) and "=" in read else read
        for typed in arguments
        for read in _as_lists(typed, is_grid)
    ]


def _as_lists(argument: str, is_grid: bool) -> list[str]:
    """A list as Hydra reads one. `evaluation=arc_easy,piqa` becomes a choice and its tasks;
    `run=a,b` is a grid's where there is one, else text that names several runs."""
    key, _, value = argument.partition("=")
    if key in LISTS and value not in ("", "null") and value[0] not in "[\"'":
        return [f"{key}=[{','.join(map(_item, value.split(',')))}]"]
    if key == "run" and "," in value and not is_grid and value[0] not in "[\"'":
        return [f'{key}="{value}"']
    if key == "evaluation" and SUITE_OR_TASKS.fullmatch(value):
        names = value.split(",")
        if not set(names) <= {*choices("evaluation"), "null"}:
            check_tasks(names)
            return [f"{key}=lm_eval", f"{key}.tasks=[{value}]"]
    return [argument]


def _item(word: str) -> str:
    """Of a list, as Hydra reads it."""
    return word if PLAIN_WORD.fullmatch(word) else _quoted(_uninterpolated(word))


def _normalized(argument: str) -> str:
    typed, _, value = argument.partition("=")
    plus, key = typed[: len(typed) - len(typed.lstrip("+"))], typed.lstrip("+")
    if key == "checkpoint" and value:
        key = "study.folder" if _is_study(value) else "run"
        new = "run" if key == "run" else "study"
        log.info(f"checkpoint={value}: the key is now {new}=, read as {new}={value}")
        return f"{key}={_words(value)}"
    if key == "study" and value not in (*choices("study"), "", "null") and "," not in value:
        return f"study.folder={_words(value)}"
    if key in integer_keys():
        return f"{plus}{key}={_integers(argument, value)}"
    if key in text_keys() and key not in (*FREE_TEXT, OF_ANOTHER_KEY):
        value = _words(value)
        argument = f"{typed}={value}"
    if key in FREE_TEXT:
        return f"{typed}={_quoted(_uninterpolated(value))}"
    if not value.isascii() and not SPECIAL.search(value):
        return f"{typed}={_quoted(value)}"
    return argument


def _words(value: str) -> str:
    """Words as typed: in quotes where Hydra would read another value, or none."""
    return NO_WORD.sub(r'"\g<0>"', value)


def _quoted(value: str) -> str:
    """As Hydra reads any text; a value in quotes stays as it is."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value
    escaped = re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + ('\\"' if m[2] else ""), value)
    return f'"{escaped}"'


def _uninterpolated(value: str) -> str:
    """With `${` as OmegaConf writes what stands for itself."""
    return re.sub(r"(\\*)\$\{", lambda m: 2 * m[1] + "\\${", value)


def _is_study(folder: str) -> bool:
    typed = typed_path("checkpoint", folder)
    return any((path / "cells.json").is_file() for path in (typed, ROOT / typed))


def _integers(argument: str, value: str) -> str:
    """Each number of a value, or of a sweep's list, as a plain integer; other words as they are."""
    return re.sub(r"[^\s,()\[\]='\"]+", lambda word: _integer(argument, word[0]), value)


def _integer(argument: str, word: str) -> str:
    match = NUMBER.fullmatch(word)
    if PLAIN.fullmatch(word) or match is None or not any(c.isdigit() for c in match[1]):
        return word
    exponent = int(match[2] or 0) + MULTIPLES[match[3].lower()]
    if abs(exponent) > LARGEST_EXPONENT:
        raise UserError(f"{argument}: {word} is out of range; use a number below 1e18")
    number = Decimal(match[1].replace("_", "")).scaleb(exponent)
    if number != int(number):
        near = f"{int(number)} or {int(number) + 1}" if number > 0 else "0"
        raise UserError(f"{argument}: {word} is not a whole number; did you mean {near}?")
    return str(int(number))
