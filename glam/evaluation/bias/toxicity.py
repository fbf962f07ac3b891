"""How toxic a text is, by a scorer of an optional package."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

# Texts to their toxicity, each from 0 to 1.
Scorer = Callable[[Sequence[str]], list[float]]
PACKAGE = "detoxify"
AT_ONCE = 32  # texts
MISSING = (
    "toxicity is left out: the package detoxify is not here; install it with "
    "pip install 'glam[toxicity]'"
)


def toxicity_scorer() -> Scorer | None:
    """Detoxify's (Hanu & Unitary, 2020), which loads its weights from the network the first time;
    None where the package is not installed."""
    if find_spec(PACKAGE) is None:
        return None
    package: Any = import_module(PACKAGE)  # typed loosely: it ships no types
    model = package.Detoxify("original")

    def score(texts: Sequence[str]) -> list[float]:
        parts = [list(texts[i : i + AT_ONCE]) for i in range(0, len(texts), AT_ONCE)]
        return [float(one) for part in parts for one in model.predict(part)["toxicity"]]

    return score
