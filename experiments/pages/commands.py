"""The command line that trains a table, from the table and the experiment's files in `conf`."""

from typing import Any

from omegaconf import OmegaConf

from experiments.pages.tables import TOKENS, NotTrainedError, Rows, rows_of, sorted_values
from experiments.tables import swept
from glam.config import ROOT

FORMS = ("full", "quick")
EACH, SECONDS = "training.tokens_per_parameter", "training.seconds"
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
        each = OmegaConf.select(node, EACH)
        if each is not None:
            found = {**found, EACH: [str(each)]}
            found.pop(TOKENS, None)
        params = OmegaConf.select(node, "hydra.sweeper.params") or {}
        found |= {str(key): str(value).split(",") for key, value in params.items()}
    return found


def _more(rows: Rows, asked: dict[str, list[str]]) -> list[str]:
    """The words that make the table of the form."""
    more: list[str] = []
    if EACH in asked:
        if _has_each(rows, float(asked[EACH][0])):
            return _more(rows, {k: v for k, v in asked.items() if k != EACH} | _tokens(rows))
        more.append(f"{EACH}=null")
    budget = () if SECONDS in rows[0] else (TOKENS,)  # seconds bring each model its own tokens
    for key in dict.fromkeys((*swept(rows), *budget)):
        there = sorted_values(key if key in rows[0] else "tokens", rows)
        if not _same(there, asked.get(key, [])):
            more.append(f"{key}={','.join(there)}")
    return more


def _tokens(rows: Rows) -> dict[str, list[str]]:
    return {TOKENS: sorted_values("tokens", rows)}


def _has_each(rows: Rows, each: float) -> bool:
    """Whether dense twins have so many tokens for each active parameter."""
    dense = [row for row in rows if row.get("model.num_experts") == "1"]
    ratios = [float(row["tokens"]) / float(row["parameters/active"]) for row in dense]
    return bool(dense) and all(abs(ratio - each) <= NEAR * each for ratio in ratios)


def _same(there: list[str], asked: list[str]) -> bool:
    try:
        pairs = zip(sorted(map(float, there)), sorted(map(float, asked)), strict=True)
        return all(abs(one - other) <= NEAR * abs(other) for one, other in pairs)
    except ValueError:
        return {one.strip().lower() for one in there} == {one.strip().lower() for one in asked}
