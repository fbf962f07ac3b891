"""The command line that trains a table, from the table and the experiment's files in `conf`."""

from typing import Any

from omegaconf import OmegaConf

from experiments.pages.tables import TOKENS, NotTrainedError, Rows, rows_of, sorted_values
from experiments.tables import swept
from glam.config import ROOT

FORMS = ("full", "quick")
NEAR = 0.01  # tokens are rounded to whole steps


def command(study: str) -> str:
    """As a block of code."""
    return f"```\n{line(study)} logger=csv\n```"  # indented code would lose its spaces in cog


def line(study: str) -> str:
    """The form of `experiment=<study>` that differs least from the table, and what differs."""
    start = f"python run.py -m experiment={study}"
    try:
        rows = rows_of(f"{study}/results.csv", "seed", "tokens")
    except NotTrainedError:
        return f"{start}/full"
    found = [(form, _more(rows, values(study, form))) for form in FORMS]
    form, more = min(found, key=lambda one: (any(TOKENS in word for word in one[1]), len(one[1])))
    return " ".join((f"{start}/{form}", *more))


def values(study: str, form: str) -> dict[str, list[str]]:
    """What a form sweeps, its tokens among it; a longer form stands on the short one."""
    forms = ("quick", "full") if form == "full" else ("quick",)
    found: dict[str, list[str]] = {}
    for one in forms:
        node: Any = OmegaConf.load(ROOT / "conf" / "experiment" / study / f"{one}.yaml")
        tokens = OmegaConf.select(node, "training.tokens")
        found |= {TOKENS: [str(tokens)]} if tokens is not None else {}
        params = OmegaConf.select(node, "hydra.sweeper.params") or {}
        found |= {str(key): str(value).split(",") for key, value in params.items()}
    return found


def _more(rows: Rows, asked: dict[str, list[str]]) -> list[str]:
    """The words that make the table of the form."""
    more: list[str] = []
    for key in dict.fromkeys((*swept(rows), TOKENS)):
        there = sorted_values(key if key in rows[0] else "tokens", rows)
        if not _same(there, asked.get(key, [])):
            more.append(f"{key}={','.join(there)}")
    return more


def _same(there: list[str], asked: list[str]) -> bool:
    try:
        pairs = zip(sorted(map(float, there)), sorted(map(float, asked)), strict=True)
        return all(abs(one - other) <= NEAR * abs(other) for one, other in pairs)
    except ValueError:
        return {one.strip().lower() for one in there} == {one.strip().lower() for one in asked}
