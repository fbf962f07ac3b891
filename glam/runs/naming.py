"""What a run differs in from the default, and the readable name that says so."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import yaml

from glam.config import ROOT, RunConfig
from glam.runs.identity import DETERMINES_THE_RESULT

CONF = ROOT / "conf"
NAMED = 3  # differences in a name, beside the model, experts, filter and seed that each name has
LONGEST = 220  # [bytes] beside an id and `.old9`, within the 255 of a file's name
# The order in which differences are named; the others follow as the configuration has them.
FIRST = (
    *("model.init_digest", "data.corpus.name", "data.filter.name", "optimizer.name"),
    *("model.d_model", "model.num_layers", "model.top_k", "optimizer.learning_rate"),
    "training.tokens",
)
IN_EVERY_NAME = ("model.name", "model.num_experts", "seed")
SHORT = {
    **{"optimizer.learning_rate": "lr", "training.batch_size": "batch"},
    "model.init_digest": "from",
}


def differences(config: RunConfig) -> dict[str, Any]:
    """By dotted key, the values that determine the result and differ from the default, or, where
    `conf/model` has a file of the model's name, from what that file sets."""
    given = {"model.name": config.model.name} | dict(_flat(config, ""))
    usual = dict(_flat(_of_same_classes(config), "")) | _names(RunConfig())
    preset = _preset(config.model.name)
    for key, value in preset.items():
        choice = f"{key.rpartition('.')[0]}.name"
        # Of an optimizer that was then replaced by another, only its name is compared.
        if key == choice or preset.get(choice, given.get(choice)) == given.get(choice):
            usual[key] = value
    usual["model.name"] = RunConfig().model.name
    differing = {key: value for key, value in given.items() if value != usual.get(key)}
    rank = {key: place for place, key in enumerate(("model.name", *FIRST))}
    return dict(sorted(differing.items(), key=lambda item: rank.get(item[0], len(rank))))


def label(key: str) -> str:
    """A key in short: `num_experts`; `optimizer` for `optimizer.name`; `data.seed` as it is."""
    section, _, last = key.rpartition(".")
    if last == "name":
        return section.rpartition(".")[2]
    return key if (section, last) == ("data", "seed") else last


def run_name(config: RunConfig) -> str:
    """A readable name; the id beside it tells apart what the name does not say."""
    data = "filtered" if config.data.filter.name != "none" else "unfiltered"
    experts = f"{config.model.num_experts}e" if config.model.moe_every else "dense"
    words = [config.model.name, experts, data, f"s{config.seed}"]
    said = {*IN_EVERY_NAME}
    if not config.model.moe_every:
        said.add("model.moe_every")
    if config.data.filter.name == "none":
        said.add("data.filter.name")
    others = [_word(key, value) for key, value in differences(config).items() if key not in said]
    words += [word for word in others if word][:NAMED]
    while len("-".join(words).encode()) > LONGEST:
        words.pop()
    return "-".join(words)


def folder_name(name: str) -> str:
    """The name itself, or where it is too long for a folder its beginning and a hash of all."""
    if len(name.encode()) <= LONGEST:
        return name
    beginning = name.encode()[: LONGEST // 2].decode(errors="ignore")
    return f"{beginning}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _word(key: str, value: Any) -> str:
    """A difference within a name: `adafactor`, `lr0.003`, `tokens500k`, `no_normalize`. Lists and
    other long values have none."""
    name = SHORT.get(key, label(key))
    if isinstance(value, bool):
        return name if value else f"no_{name}"
    if isinstance(value, int | float):
        return name + "_" * name[-1].isdigit() + _compact(value)
    if value is None or isinstance(value, list | dict) or not re.fullmatch(r"[\w.+]{1,24}", value):
        return ""
    return value if key.endswith(".name") else f"{name}_{value}"


def _compact(number: float) -> str:
    for size, prefix in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size and (number * 100 / size).is_integer():
            return f"{number / size:g}{prefix}"
    return f"{number:g}" if isinstance(number, float) else str(number)


def _flat(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted name and value of each field that determines the result."""
    for field in dataclasses.fields(node):
        is_asked = prefix or field.name in DETERMINES_THE_RESULT
        if not is_asked or not field.metadata.get("result", True):
            continue
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def _of_same_classes(node: Any) -> Any:
    """The defaults of the classes that `node` is made of, as those of Adafactor."""
    default = type(node)()
    parts = {
        field.name: _of_same_classes(value)
        for field in dataclasses.fields(node)
        if dataclasses.is_dataclass(value := getattr(node, field.name))
    }
    for name, value in parts.items():
        setattr(default, name, value)
    return default


def _names(config: RunConfig) -> dict[str, Any]:
    """The choices of groups with several classes."""
    return {key: value for key, value in _flat(config, "") if key.endswith(".name")}


@functools.cache
def _preset(model: str) -> dict[str, Any]:
    """By dotted key, what `conf/model/<model>.yaml` and the files that it builds on set."""
    values: dict[str, Any] = {}
    content = _read(f"model/{model}")
    for entry in content.pop("defaults", []):
        if isinstance(entry, dict):  # `override /optimizer@_global_.optimizer: adafactor`
            [(key, choice)] = entry.items()  # pyright: ignore[reportUnknownVariableType]
            group = str(key).partition("/")[2].partition("@")[0]  # pyright: ignore
            own = _read(f"{group}/{choice}")
            values |= {f"{group}.{name}": value for name, value in own.items()}
        elif entry != "_self_":
            values |= _preset(str(entry))
    return values | dict(_dotted(content, "model."))


def _read(config: str) -> dict[str, Any]:
    """A file of `conf/`; empty where there is none that can be read."""
    try:
        content: Any = yaml.safe_load((CONF / f"{config}.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _dotted(content: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield prefix + name, value
