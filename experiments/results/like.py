"""Grids of runs like those that a study's own module trains: for its cost, and for what its table
was trained by."""

import itertools
from collections.abc import Sequence


def sweep() -> list[str]:
    """Three rates of every size and budget; where a walk goes, its losses say."""
    from experiments.learning_rate import sweep

    same = ("hardware.threads=1", f"runs_dir={sweep.RUNS}", *sweep.ASIDE)
    twins = (_several("model.num_experts", sweep.EXPERTS), _several("seed", sweep.SEEDS))
    return [
        _words(
            *(f"model={model}", f"training.tokens={tokens}", *twins, *same),
            _several("optimizer.learning_rate", sweep.LATTICE[3:6]),
        )
        for model, tokens in itertools.product(sweep.MODELS, sweep.BUDGETS)
        if tokens <= sweep.MOST.get(model, tokens)
    ]


def arms() -> list[str]:
    """Those that begin with another run take as long as the same model that begins with none."""
    from experiments.upcycling.study import ARMS, FIXED, SEEDS, folder_of

    return [
        _words(*FIXED, *arm.words, _several("seed", SEEDS), f"runs_dir={folder_of(name)}")
        for name, arm in ARMS.items()
    ]


def _several(key: str, values: Sequence[object]) -> str:
    return f"{key}={','.join(f'{one:g}' if isinstance(one, float) else str(one) for one in values)}"


def _words(*words: str) -> str:
    """What the runner says itself is left out."""
    return " ".join(word for word in words if not word.startswith(("log_level=", "logger=")))
