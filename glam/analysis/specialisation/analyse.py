"""The analysis of a run's experts, as `analysis.json` holds it: load, information, agreement
between layers, the tokens each expert gets, and the claims that held."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from glam.analysis.specialisation.claims import FEWEST_DOCUMENTS, find_claims
from glam.analysis.specialisation.information import Information, count, mutual_information
from glam.analysis.specialisation.labels import Documents, Floats, Ints, Labels
from glam.runs.record import Metrics

T = TypeVar("T")
Track = Callable[[Iterable[T]], Iterable[T]]  # shows how far an iteration is
MOST_TOKENS = 8  # of an expert


def analyse(
    choices: Mapping[int, Ints],
    num_experts: int,
    labels: Sequence[Labels],
    documents: Documents,
    *,
    shuffles: int,
    seed: int,
    track: Track[int] = iter,
) -> dict[str, Any]:
    """Of `choices[layer] [N, K]`, the experts of every token, the highest gate first; the first of
    `labels` are the tokens themselves. Loads count every choice; all else the first alone, since a
    token has one of them."""
    first = {layer: chosen[:, 0] for layer, chosen in choices.items()}
    information = {
        layer: {
            kind.about: mutual_information(
                first[layer],
                num_experts,
                kind,
                documents,
                shuffles=shuffles,
                rng=np.random.default_rng([seed, layer]),
            )
            for kind in labels
        }
        for layer in track(list(first))
    }
    rng = np.random.default_rng([seed, len(first)])
    claims = find_claims(first, num_experts, labels, documents, shuffles=shuffles, rng=rng)
    return {
        "tokens": len(labels[0].values),
        "documents": len(documents),
        "num_experts": num_experts,
        "shuffles": shuffles,
        "fewest_documents": FEWEST_DOCUMENTS,
        "load": [
            _load(layer, chosen, num_experts, labels[1:]) for layer, chosen in choices.items()
        ],
        "information": [
            {"layer": layer, "about": about, **_as_json(found)}
            for layer, of_layer in information.items()
            for about, found in of_layer.items()
        ],
        "agreement": agreement(first, num_experts, documents, shuffles=shuffles, seed=seed),
        "experts": [
            row
            for layer in first
            for row in _experts(layer, first[layer], num_experts, labels[0], information[layer])
        ],
        "claims": [{**asdict(claim), "found": claim.is_found} for claim in claims],
    }


def _load(layer: int, chosen: Ints, num_experts: int, labels: Sequence[Labels]) -> dict[str, Any]:
    """Each expert's share of the choices `[N, K]` of a layer, over all tokens and by label."""
    return {
        "layer": layer,
        "share": shares(count_choices(chosen, None, num_experts))[0].tolist(),
        **{f"by_{kind.about}": _by_label(chosen, kind, num_experts) for kind in labels},
    }


def shares(counts: Floats) -> Floats:
    """Rows of counts as shares of their sum; zeros stay zeros."""
    return counts / np.maximum(counts.sum(-1, keepdims=True), 1)


def count_choices(choices: Ints, labels: Ints | None, num_experts: int) -> Floats:
    """All choices `[N, K]` by label and expert `[X, E]`; in one row without labels."""
    top_k = choices.shape[1]
    values = np.zeros(len(choices), np.int64) if labels is None else labels
    return count(choices.flatten(), np.repeat(values, top_k), num_experts).T


def _by_label(choices: Ints, kind: Labels, num_experts: int) -> dict[str, list[float]]:
    """Each label's shares of the experts; labels that no token has are left out."""
    table = count_choices(choices, kind.values, num_experts)
    rows = zip(kind.names, table, shares(table).tolist(), strict=False)
    return {name: share for name, counts, share in rows if counts.sum()}


def _as_json(found: Information) -> dict[str, Any]:
    return {
        "bits": found.bits,
        "null": found.null,
        "excess": found.excess,
        "low": found.low,
        "high": found.high,
    }


def agreement(
    first: Mapping[int, Ints], num_experts: int, documents: Documents, *, shuffles: int, seed: int
) -> list[dict[str, Any]]:
    """Of every two layers: the mutual information of a token's experts in them."""
    found: list[dict[str, Any]] = []
    layers, names = list(first), [str(expert) for expert in range(num_experts)]
    for i, one in enumerate(layers):
        for other in layers[i + 1 :]:
            information = mutual_information(
                first[one],
                num_experts,
                Labels("expert", first[other], names),
                documents,
                shuffles=shuffles,
                rng=np.random.default_rng([seed, one, other]),
            )
            found.append({"layers": [one, other], **_as_json(information)})
    return found


def _experts(
    layer: int,
    experts: Ints,
    num_experts: int,
    tokens: Labels,
    information: Mapping[str, Information],
) -> list[dict[str, Any]]:
    """A row for each expert of a layer, with its most frequent tokens."""
    table = count(experts, tokens.values, num_experts)
    of_token = table.sum(0)
    return [
        {
            "layer": layer,
            "expert": expert,
            "share": float(counts.sum() / len(experts)),
            "information": {
                about: float(found.by_expert[expert]) for about, found in information.items()
            },
            "tokens": [
                {
                    "piece": tokens.names[token],
                    "share": float(counts[token] / counts.sum()),
                    "of_token": float(counts[token] / of_token[token]),
                }
                for token in most_frequent(counts)
            ],
        }
        for expert, counts in enumerate(table)
    ]


def most_frequent(counts: NDArray[np.float64], most: int = MOST_TOKENS) -> list[int]:
    """Indices of the highest counts above 0, the highest first."""
    order = np.argsort(-counts, kind="stable")[:most]
    return [int(index) for index in order if counts[index] > 0]


def over_training(metrics: Metrics) -> dict[str, Any]:
    """How the load came about, where `metrics.csv` recorded it: at each point the busiest expert
    over the mean, and the share of choices that went elsewhere than at the end."""
    tokens, loads = metrics.load()
    return {
        "tokens": tokens.tolist(),
        "layers": [
            {
                "layer": int(layer),
                "busiest": load.max(1).tolist(),
                "elsewhere": (np.abs(load - load[-1]).sum(1) / 2 / load.shape[1]).tolist(),
            }
            for layer, load in loads.items()
            if len(load)
        ],
    }
