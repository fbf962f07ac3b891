"""What a run was judged on, kept: an evaluation adds to those before it, and loses none of them.

Scores of a suite stand in one file. Those of other demonstrations or other tasks are added to it.
What is judged again, on the same items, takes the place of what stood there. Where the items of a
score that is there have changed (other data), or a file cannot be read, the earlier files are moved
to `evaluation/earlier`.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from glam.errors import UserError, first_line
from glam.files import read_text
from glam.log import log
from glam.runs.evaluations import (
    FOLDER,
    HARNESS,
    ITEMS,
    SavedItems,
    SavedScore,
    SavedSuite,
    SavedSuiteItems,
    file_of,
    read_items,
    read_suite,
)
from glam.runs.folder import FollowersFolder, RunFolder, locked

EARLIER = "earlier"
Scored = TypeVar("Scored", SavedScore, SavedItems)
Json = dict[str, Any]


def keep(
    run: RunFolder, saved: SavedSuite, items: SavedSuiteItems, lm_eval: Mapping[str, Json]
) -> None:
    """Add what an evaluation found to the folder of the run; `lm_eval` is lm-eval's own result of
    each column."""
    if isinstance(run, FollowersFolder):
        return
    (run.path / FOLDER).mkdir(exist_ok=True)
    name = saved["suite"]
    with locked(run.path / FOLDER / ".lock"):
        before = read_suite(run.path, name)
        if before is None and (run.path / file_of(name)).exists():
            _move_aside(run, name, "what is there cannot be read")
        elif before is not None and _has_other_items(before, saved):
            _move_aside(run, name, "its items are others than before")
            before = None
        items_before = read_items(run.path, name)
        for column, found in lm_eval.items():
            file = file_of(name, f".{column}{HARNESS}" if column else HARNESS)
            run.write_plain_json(file, _with_harness(run, file, found))
        if items_before is not None:
            both = _with(items_before["tasks"], items["tasks"])
            items = SavedSuiteItems(suite=name, tasks=both)
        run.write_json(file_of(name, ITEMS), items)
        run.write_json(file_of(name), saved if before is None else _added(before, saved))


def averages(asked: Mapping[str, Json], scores: Sequence[SavedScore]) -> dict[str, Json]:
    """Each of `asked`, by name, with its `value`: the unweighted mean over as many scores (`tasks`)
    as there are in its `column`, `of` those it is `over`. These are names of tasks, which stand for
    their first metrics, or `<task>/<metric>`. An average of no score is left out."""
    found: dict[str, Json] = {}
    for name, one in asked.items():
        over = one.get("over", [])
        values = [
            score["value"]
            for score in scores
            if score["column"] == one.get("column")
            and (
                (score["is_first"] and score["task"] in over)
                or f"{score['task']}/{score['metric']}" in over
            )
        ]
        if values:
            known = [value for value in values if value is not None]
            mean = sum(known) / len(known) if len(known) == len(values) else None
            found[name] = {**one, "value": mean, "tasks": len(values), "of": len(over)}
    return found


def _added(before: SavedSuite, now: SavedSuite) -> SavedSuite:
    scores = _with(before["scores"], now["scores"])
    judged = {one["task"] for one in scores}
    missing = before["missing"] | now["missing"]
    return SavedSuite(
        suite=now["suite"],
        scores=scores,
        missing={task: why for task, why in missing.items() if task not in judged},
        averages=averages(before["averages"] | now["averages"], scores),
        versions=now.get("versions", {}),
    )


def _key(one: SavedScore | SavedItems) -> tuple[str, str, str]:
    return one["task"], one["metric"], one["column"]


def _with(before: Sequence[Scored], now: Sequence[Scored]) -> list[Scored]:
    """Those of both, the newer ones where both have one: by task as the longer list has them, then
    by number of demonstrations, each task's own last."""
    of_both = {**{_key(one): one for one in before}, **{_key(one): one for one in now}}
    lists = sorted(([one["task"] for one in each] for each in (now, before)), key=_count)
    tasks = list(dict.fromkeys([*lists[1], *lists[0]]))  # the longer first
    return sorted(
        of_both.values(), key=lambda one: (tasks.index(one["task"]), _place(one["column"]))
    )


def _count(tasks: Iterable[str]) -> int:
    return len(set(tasks))


def _place(column: str) -> float:
    shots = column.partition("-")[0]
    return float(shots) if shots.isdecimal() else float("inf")


def _has_other_items(before: SavedSuite, now: SavedSuite) -> bool:
    known = {_key(one): one["items_digest"] for one in before["scores"]}
    return any(
        known.get(_key(one), one["items_digest"]) != one["items_digest"] for one in now["scores"]
    )


def _move_aside(run: RunFolder, name: str, why: str) -> None:
    number = 1
    while (target := run.path / FOLDER / EARLIER / str(number)).exists():
        number += 1
    target.mkdir(parents=True)
    files = [run.path / file_of(name), run.path / file_of(name, ITEMS)]
    stem = (run.path / file_of(name, "")).name
    harness = re.compile(rf"{re.escape(stem)}(\.\d+-shot)?{re.escape(HARNESS)}")
    files += (one for one in files[0].parent.iterdir() if harness.fullmatch(one.name))
    for file in files:
        if file.exists():
            file.rename(target / file.name)
    log.info(f"{name}: {why}; the earlier files are now in {target}")


def _with_harness(run: RunFolder, file: str, now: Json) -> Json:
    """lm-eval's result with those tasks of the file of before that it does not have."""
    try:
        before: Any = json.loads(read_text(run.path / file, way_out=""))
    except FileNotFoundError:
        return now
    except (ValueError, UserError) as error:
        log.warning(f"{run.path / file} is written anew ({first_line(error)})")
        return now
    if not isinstance(before, dict):
        return now
    earlier = cast(Json, before)
    return {
        key: {**earlier[key], **value} if _are_mappings(earlier.get(key), value) else value
        for key, value in now.items()
    }


def _are_mappings(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)
