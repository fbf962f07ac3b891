"""The budget that a study holds equal for the cells it compares, checked before one starts."""

from collections.abc import Sequence

from glam.errors import UserError, nearest
from glam.studies.study import Cell

ROUTER_SHARE = 0.05  # FLOPs by which a sparse model may exceed its dense twin: those of its gate


def check_comparison(cells: Sequence[Cell]) -> None:
    """Raises UserError where compared cells differ in `study.budget`, or where no cell has
    `study.baseline`."""
    study = cells[0].config.study
    key = study.compares
    if key is None:
        if study.budget is not None:
            raise UserError(
                f"study.budget={study.budget} is what the cells have in common that study.compares "
                f"compares; set it, as in study.compares=model.num_experts"
            )
        return
    if key == "seed":
        raise UserError(
            "study.compares=seed: seeds are what the intervals are over; name another swept key"
        )
    if key not in cells[0].values:
        raise UserError(
            f"study.compares={key} is not swept here; {nearest(key, cells[0].values)} (or sweep it)"
        )
    values = list(dict.fromkeys(_text(cell.values[key]) for cell in cells))
    if len(values) == 1:
        return  # a part of the study; the rest is there, or comes
    if study.baseline is not None and _text(study.baseline) not in values:
        raise UserError(
            f"study.baseline={study.baseline} is no value of {key} here ({', '.join(values)}); add "
            f"it, or set study.baseline to one of them"
        )
    if study.budget is None:
        return
    for members in _compared(cells, key):
        spent = [_spent(cell, study.budget) for cell in members]
        if max(spent) > (1 + ROUTER_SHARE * (study.budget == "flops")) * min(spent):
            raise UserError(
                f"study.budget={study.budget} but {members[spent.index(min(spent))].name} and "
                f"{members[spent.index(max(spent))].name} spend {min(spent):.3g} and "
                f"{max(spent):.3g}; make them equal, or set study.budget=null"
            )


def _compared(cells: Sequence[Cell], key: str) -> list[list[Cell]]:
    """Cells that differ in nothing but `key`."""
    found: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        others = tuple(f"{k}={v}" for k, v in cell.values.items() if k != key)
        found.setdefault(others, []).append(cell)
    return list(found.values())


def _spent(cell: Cell, budget: str) -> float:
    training = cell.config.training
    if budget == "seconds":
        if training.seconds is None:
            raise UserError("study.budget=seconds but training.seconds is not set; set it")
        return training.seconds
    if training.seconds is not None:
        raise UserError(
            f"study.budget={budget} but training.seconds={training.seconds:g} gives each model its "
            f"own tokens; set study.budget=seconds, or training.tokens in its place"
        )
    tokens = training.num_steps * training.tokens_per_step
    return tokens if budget == "tokens" else 3 * tokens * cell.config.flops_per_token


def _text(value: object) -> str:
    return str(value).lower()
