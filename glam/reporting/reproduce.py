"""What repeats a run or a study: the command, and the code and text that it was made with."""

import dataclasses
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from glam.analysis.paired import StudyRow, values_of
from glam.config import GROUPS, RunConfig, StudyConfig
from glam.runs.record import Record, mapping
from glam.units import counted

SECTIONS = ("model", "data", "optimizer", "schedule", "training", "evaluation", "seed")


def study_command(
    name: str, records: Sequence[Record], swept: Mapping[str, Sequence[Any]], study: StudyConfig
) -> str:
    """`python run.py -m`, what all runs of the study have in common, its swept values and what it
    compares; a study of the same name gains what is missing."""
    words = [shlex.split(command(record))[2:] for record in records]
    common = [word for word in words[0] if all(word in others for others in words)]
    fixed = [word for word in common if word.split("=")[0] not in swept]
    over = [f"{key}={','.join(map(_hydra, values))}" for key, values in swept.items()]
    asked = {"name": name, "compares": study.compares, "baseline": study.baseline}
    asked["budget"] = study.budget
    said = [f"study.{key}={_hydra(value)}" for key, value in asked.items() if value is not None]
    return shlex.join(["python", "run.py", "-m", *fixed, *over, *said])


def provenance(
    name: str,
    cells: Sequence[StudyRow],
    records: Sequence[Record],
    swept: Sequence[str],
    study: StudyConfig,
) -> dict[str, Any]:
    """`command`, and by name what the runs were made with: a value for all of them, or all values
    with the number of their runs."""
    found = {
        "Commit": [record.summary.get("git") for record in records],
        "Text": [_text(record) for record in records],
        "Fingerprint of the text": [record.summary.get("data_fingerprint") for record in records],
        "Evaluated on": [evaluated_on(record) for record in records],
    }
    values = {key: values_of(key, cells) for key in swept}
    return {
        "command": study_command(name, records, values, study) if records else "",
        "rows": [(label, _in_common(parts)) for label, parts in found.items() if any(parts)],
    }


def _in_common(values: Sequence[Any]) -> str:
    counts = Counter(str(value) for value in values if value)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({counted(n, 'run')})" for value, n in counts.items())


def _text(record: Record) -> str:
    corpus = str(record.setting("data.corpus.name") or "")
    kept = str(record.setting("data.filter.name") or "")
    text = {"none": "unfiltered"}.get(kept, f"filter {kept}" if kept else "")
    return ", ".join(part for part in (f"{corpus} corpus" if corpus else "", text) if part)


def evaluated_on(record: Record) -> str:
    """How much held-out text the final losses come from; empty where it is not recorded."""
    evaluation = mapping(record.config.get("evaluation"))
    if "tokens_per_domain" not in evaluation:
        return ""
    size = evaluation["tokens_per_domain"]
    return f"up to {size:,} tokens of each domain" if size else "all held-out text of each domain"


def command(record: Record) -> str:
    """`python run.py` and every override that tells this configuration from the default one; with
    the threads and the precision that the run found, which are part of its identity."""
    default = dataclasses.asdict(RunConfig())
    words = ["python", "run.py"]
    for section in SECTIONS:
        if section in record.config:
            words += _overrides(section, record.config[section], default[section])
    for name in ("threads", "precision"):
        if name in record.summary:
            words.append(f"hardware.{name}={record.summary[name]}")
    return shlex.join(words)


def _overrides(key: str, value: Any, default: Any) -> Iterator[str]:
    """Groups before what is set inside them."""
    if not isinstance(value, dict):
        if value != default:
            yield f"{key}={_hydra(value)}"
        return
    parts, known = mapping(value), mapping(default)
    choice = str(parts.get("name"))
    if key in GROUPS and choice != known["name"] and choice in GROUPS[key]:
        # Another class: its fields have other names and defaults.
        yield f"{key.replace('.', '/')}={choice}"
        known = dataclasses.asdict(GROUPS[key][choice]())
    for name, part in parts.items():
        yield from _overrides(f"{key}.{name}", part, known.get(name))


def _hydra(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(_hydra, cast(list[Any], value))) + "]"
    text = str(value)
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_./][\w./*+-]*", text):
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return text
