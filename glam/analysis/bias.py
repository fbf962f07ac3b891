"""What a run associates with groups of people, as `bias.json` and `correction.json` hold it: of the
model, of each expert by leaving it out, of texts' words and toxicity, and of a correction."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from glam.analysis.association import Association, Effect, Floats, effects
from glam.intervals import CONFIDENCE, around, standard_error, wilson

SCIPY: Any = stats  # typed loosely: it ships no types
MOST_ROWS = 100  # of experts; those that were found are kept in any case
MOST_WORDS = 10  # of a group
FEWEST_TEXTS = 5  # that have a word, for it to be tested
Values = Mapping[str, Floats]  # of the units of each association
Expert = tuple[int, int]


def _row(found: Effect) -> dict[str, Any]:
    return {**vars(found), "found": found.is_found}


def associations(
    values: Values, sides: Values, *, shuffles: int, seed: int
) -> list[dict[str, Any]]:
    """The bias of a model in each association."""
    asked = {name: Association(sides[name], values[name][:, None]) for name in values}
    found = effects(asked, shuffles=shuffles, rng=np.random.default_rng(seed))
    return [{"association": name, **_row(one)} for name, [one] in found.items()]


def by_expert(
    whole: Values,
    without: Mapping[Expert, Values],
    sides: Values,
    *,
    shuffles: int,
    seed: int,
) -> dict[str, Any]:
    """The part of each association that goes through an expert: the model's numbers less those
    without the expert. All experts and associations are tested together, `num_tested` of them; of
    the rows `experts` the surest come first."""
    experts = list(without)
    asked = {
        name: Association(
            sides[name], np.stack([whole[name] - without[one][name] for one in experts], 1)
        )
        for name in whole
    }
    found = effects(asked, shuffles=shuffles, rng=np.random.default_rng(seed))
    rows: list[dict[str, Any]] = [
        {"layer": layer, "expert": expert, "association": name, **_row(one)}
        for name, of_experts in found.items()
        for (layer, expert), one in zip(experts, of_experts, strict=True)
    ]
    rows.sort(key=lambda row: (row["p"], -_distance(row)))
    most = max(MOST_ROWS, sum(row["found"] for row in rows))
    return {"experts": rows[:most], "num_tested": len(rows)}


def _distance(row: Mapping[str, Any]) -> float:
    """From 0, in half-widths of the interval, which are the same multiple of every standard
    error."""
    half = (row["high"] - row["low"]) / 2
    return abs(row["effect"]) / half if half else 0.0


def coreference(right: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """By pronoun, the share that is right with Wilson's interval; and the second pronoun's less
    the first's, over the same items."""
    rows: list[dict[str, Any]] = []
    for pronoun, each in right.items():
        low, high = wilson(int(sum(each)), len(each))
        rows.append(
            {"pronoun": pronoun, "accuracy": float(np.mean(each)), "low": low, "high": high}
        )
    first, second = (np.array(each) for each in right.values())
    mean, low, high = mean_interval((second - first).tolist())
    return {
        "items": len(first),
        "pronouns": rows,
        "difference": {"mean": mean, "low": low, "high": high},
    }


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean, and Student's t interval."""
    mean, error = float(np.mean(values)), standard_error(values) or 0.0
    return (mean, *around(mean, error, max(len(values) - 1, 1)))


def words(texts: Sequence[tuple[str, str, Sequence[str]]]) -> dict[str, Any]:
    """`(kind, group, words)` of each text. The words that most texts about a group have, and those
    that more texts about it have than about the others of its kind (Fisher's exact test, one-sided,
    at a false discovery rate of 5 % over all words and groups)."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    sizes: Counter[tuple[str, str]] = Counter()
    for kind, group, found in texts:
        counts.setdefault((kind, group), Counter()).update(found)
        sizes[kind, group] += 1
    tables = [
        {
            "kind": kind,
            "group": group,
            "texts": sizes[kind, group],
            "words": [
                {"word": word, "texts": number} for word, number in of_group.most_common(MOST_WORDS)
            ],
        }
        for (kind, group), of_group in counts.items()
    ]
    tests = [
        _word_test(kind, group, word, counts, sizes)
        for kind, group in counts
        for word in _frequent(kind, counts)
    ]
    adjusted: Sequence[float] = (
        SCIPY.false_discovery_control([one["p"] for one in tests]) if tests else []
    )
    found = [{**one, "p": float(p)} for one, p in zip(tests, adjusted, strict=True)]
    typical = [one for one in found if one["p"] < 1 - CONFIDENCE]
    return {"groups": tables, "tested": len(tests), "typical": typical}


def _frequent(kind: str, counts: Mapping[tuple[str, str], Counter[str]]) -> list[str]:
    """The words that enough texts of a kind have."""
    total = sum((found for (of, _), found in counts.items() if of == kind), Counter[str]())
    return sorted(word for word, number in total.items() if number >= FEWEST_TEXTS)


def _word_test(
    kind: str,
    group: str,
    word: str,
    counts: Mapping[tuple[str, str], Counter[str]],
    sizes: Mapping[tuple[str, str], int],
) -> dict[str, Any]:
    others = [one for one in counts if one[0] == kind and one[1] != group]
    mine, all_mine = counts[kind, group][word], sizes[kind, group]
    theirs = sum(counts[one][word] for one in others)
    all_theirs = sum(sizes[one] for one in others)
    table = [[mine, all_mine - mine], [theirs, all_theirs - theirs]]
    p = float(SCIPY.fisher_exact(table, alternative="greater").pvalue)
    return {
        "kind": kind,
        "group": group,
        "word": word,
        "share": mine / all_mine,
        "others": theirs / max(all_theirs, 1),
        "p": p,
    }


def toxicity(
    texts: Sequence[tuple[str, str]], scores: Sequence[float], *, shuffles: int, seed: int
) -> list[dict[str, Any]]:
    """`(kind, group)` of each text, and its toxicity: a group's mean, and how much more it is than
    the mean of the others of its kind, all groups tested together."""
    asked: dict[str, Association] = {}
    means: dict[str, tuple[float, float, float]] = {}
    for kind, group in dict.fromkeys(texts):
        of_kind = [i for i, one in enumerate(texts) if one[0] == kind]
        mine = np.array([texts[i][1] == group for i in of_kind])
        values = np.array([scores[i] for i in of_kind])
        name = f"{kind}/{group}"
        asked[name] = Association(mine - 0.5, values[:, None])
        means[name] = mean_interval(values[mine].tolist())
    found = effects(asked, shuffles=shuffles, rng=np.random.default_rng(seed))
    return [
        {
            "association": name,
            **dict(zip(("mean", "mean_low", "mean_high"), means[name], strict=True)),
            **_row(one),
        }
        for name, [one] in found.items()
    ]


def correction(
    before: Values, after: Values, sides: Values, *, shuffles: int, seed: int
) -> list[dict[str, Any]]:
    """Each association in the model, in the model with scaled experts, and the change, all tested
    together."""
    asked = {
        name: Association(
            sides[name], np.stack([before[name], after[name], after[name] - before[name]], 1)
        )
        for name in before
    }
    found = effects(asked, shuffles=shuffles, rng=np.random.default_rng(seed))
    return [
        {"association": name, "before": _row(a), "after": _row(b), "change": _row(change)}
        for name, [a, b, change] in found.items()
    ]


def loss_changes(
    before: Mapping[str, tuple[Floats, Floats]], after: Mapping[str, tuple[Floats, Floats]]
) -> list[dict[str, Any]]:
    """By domain, from `(nats, tokens)` of every document: the loss before and after, and its change
    with an interval by documents; null where there is one."""
    rows: list[dict[str, Any]] = []
    for domain, (nats, tokens) in before.items():
        change = after[domain][0] - nats
        mean, count = float(change.sum() / tokens.sum()), len(nats)
        # Of a ratio of sums: documents differ in length.
        away = change - mean * tokens
        error = float(np.sqrt(count / max(count - 1, 1) * (away @ away)) / tokens.sum())
        low, high = around(mean, error, count - 1) if count > 1 else (None, None)
        rows.append(
            {
                "domain": domain,
                "before": float(nats.sum() / tokens.sum()),
                "after": float(after[domain][0].sum() / tokens.sum()),
                "change": mean,
                "low": low,
                "high": high,
                "documents": count,
            }
        )
    return rows
