"""Scores of a suite of tasks, at the terminal and as rows of a page."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glam.analysis.items import ItemDifference, item_differences
from glam.analysis.tasks import above_chance, is_above_chance
from glam.runs.evaluations import (
    SavedClean,
    SavedScore,
    SavedSuite,
    SavedSuiteItems,
    column_title,
)
from glam.units import DASH, counted, fixed, in_message, signed, whole

MOST_NAMED = 6  # tasks, in a sentence
WIDE = 200  # columns, where there is no terminal
NOTE = (
    "Differences are on the same items; ± is half of the 95 % t interval of the difference alone. "
    "Smallest: the true difference that so many items would have shown in four of five cases. *: "
    "significant at a false discovery rate of 5 % over all of these (Benjamini–Hochberg)."
)

PUBLISHED = (
    "GLaM and GPT-3: as public copies of their papers print them; ?: copies disagree, or only one "
    "was found (docs/glam29.md)."
)

CLEAN = (
    "clean: the score of those items that have no n-gram of 8 to 13 words in common with the "
    "training text (docs/contamination.md)."
)


def print_suite(run: str, saved: SavedSuite, console: Console | None = None) -> None:
    """A row for each task and metric, a column for each number of demonstrations."""
    console = console or _console()
    console.print(Text(f"{run}  {saved['suite']}", style="bold"))
    console.print(_drawn(*suite_table(saved)))
    for line in [*average_lines(saved), *chance_lines(saved)]:
        console.print(Text(line), soft_wrap=True)
    if published_models(saved):
        console.print(Text(PUBLISHED, style="dim"))
    if has_clean(saved):
        console.print(Text(CLEAN, style="dim"), soft_wrap=True)
    for task, why in saved["missing"].items():
        console.print(Text(f"{task}: left out, {why}", style="dim"), soft_wrap=True)


def _console() -> Console:
    """A file has room for all columns side by side."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def _drawn(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The first two columns are words, the others numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if place < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(in_message(cell)) for cell in row))
    return table


def suites_on_page(suites: Sequence[SavedSuite]) -> list[dict[str, Any]]:
    """What the template shows of each suite."""
    found: list[dict[str, Any]] = []
    for saved in suites:
        titles, rows = suite_table(saved)
        left_out = [f"{task}: left out, {why}" for task, why in saved["missing"].items()]
        note = [PUBLISHED] if published_models(saved) else []
        note += [CLEAN] if has_clean(saved) else []
        lines = [*average_lines(saved), *chance_lines(saved), *note, *left_out]
        found.append({"name": saved["suite"], "titles": titles, "rows": rows, "lines": lines})
    return found


def suite_table(saved: SavedSuite) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of text: value and interval of each column, then chance and items."""
    columns = list(dict.fromkeys(one["column"] for one in saved["scores"]))
    has_own = "" in columns
    models = published_models(saved)
    clean = columns if has_clean(saved) else []
    by_row: dict[tuple[str, str], dict[str, SavedScore]] = {}
    for one in saved["scores"]:
        by_row.setdefault((one["task"], one["metric"]), {})[one["column"]] = one
    rows: list[list[str]] = []
    seen: set[str] = set()
    for (task, metric), found in by_row.items():
        any_of = next(iter(found.values()))
        rows.append(
            [
                "" if task in seen else task,
                metric,
                *(_score(found.get(column)) for column in columns),
                *(_clean(found.get(column)) for column in clean),
                *(_published(found, columns, model) for model in models),
                fixed(any_of["chance"]),
                whole(any_of["items"]),
                *([_clean_items(any_of)] if clean else []),
                *([whole(found[""]["num_fewshot"]) if "" in found else DASH] if has_own else []),
            ]
        )
        seen.add(task)
    scores = [column_title(column) for column in columns]
    on_clean = [f"{column_title(column)} clean" for column in clean]
    if columns == [""]:
        scores, on_clean, shots = ["score (95 % interval)"], on_clean and ["clean"], ["shots"]
    else:
        shots = [f"shots of {column_title('')}"] if has_own else []
    last = ["chance", "items", *(["of them clean"] if clean else []), *shots]
    return ["task", "metric", *scores, *on_clean, *models, *last], rows


def has_clean(saved: SavedSuite) -> bool:
    """Whether the overlap of its items with training text is known."""
    return any(one.get("clean") for one in saved["scores"])


def published_models(saved: SavedSuite) -> list[str]:
    """Models that papers give scores of on tasks of the suite."""
    return sorted({model for one in saved["scores"] for model in one.get("published") or {}})


def _published(found: Mapping[str, SavedScore], columns: Sequence[str], model: str) -> str:
    """A figure for each column."""
    of_columns = [(found[one].get("published") or {}) if one in found else {} for one in columns]
    return ", ".join(_figure(one[model]) if model in one else DASH for one in of_columns)


def _figure(published: Mapping[str, Any]) -> str:
    return fixed(published["value"]) + ("?" if published["doubt"] else "")


def _clean(one: SavedScore | None) -> str:
    """The score on the items without overlap."""
    return _score((one or {}).get("clean"))


def _clean_items(one: SavedScore) -> str:
    clean = one.get("clean")
    return DASH if clean is None else whole(clean["items"])


def _score(one: SavedScore | SavedClean | None) -> str:
    if one is None:
        return DASH
    value = fixed(one["value"])
    if one["low"] is None:
        return value
    return f"{value} [{fixed(one['low'])}, {fixed(one['high'])}]"


def average_lines(saved: SavedSuite) -> list[str]:
    """Each average in words, with how many of its tasks were judged."""
    several = len({one["column"] for one in saved["scores"]}) > 1
    return [
        f"{_average(name, one, several)}: {fixed(one['value'])}, "
        f"mean of {one['tasks']} of {one['of']} scores{_beside(one)}"
        for name, one in saved["averages"].items()
    ]


def _average(name: str, one: Mapping[str, Any], several: bool) -> str:
    is_own = several and one.get("column") == ""
    return f"{name} {column_title('')}" if is_own else name


def chance_lines(saved: SavedSuite) -> list[str]:
    """Of each column, the tasks that are told from chance."""
    lines: list[str] = []
    columns = dict.fromkeys(one["column"] for one in saved["scores"])
    for column in columns:
        mine = [one for one in saved["scores"] if one["is_first"] and one["column"] == column]
        p_values = above_chance({one["task"]: cast(dict[str, Any], one) for one in mine})
        if p_values:
            told = [name for name, p in p_values.items() if is_above_chance(p)]
            of = f"{len(told)} of {counted(len(p_values), 'task')}"
            not_told = [name for name in p_values if name not in told]
            but = f"; not {', '.join(not_told)}" if told and 0 < len(not_told) <= MOST_NAMED else ""
            where = f" ({column_title(column)})" if column or len(columns) > 1 else ""
            lines.append(f"Told from chance at 5 % by Holm’s correction{where}: {of}{but}.")
    return lines


def _beside(average: Mapping[str, Any]) -> str:
    published: dict[str, Any] = average.get("published") or {}
    return "".join(f"; {model} {_figure(one)} over all" for model, one in published.items())


def print_comparison(judged: Mapping[str, SavedSuiteItems], console: Console | None = None) -> None:
    """Each run after the first, compared with the first item by item."""
    console = console or _console()
    (first, items), *others = judged.items()
    found = item_differences({name: ([items], [other]) for name, other in others})
    for name, differences in found.items():
        console.print(Text(f"{name} against {first}", style="bold"))
        if differences:
            console.print(_drawn(*comparison_table(differences)))
        else:
            console.print("they were not judged on the same items, so nothing is compared")
    console.print(Text(NOTE, style="dim"))


def comparison_table(found: Sequence[ItemDifference]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of text."""
    titles = ["task", "metric", "items", "first", "this", "difference", "smallest", "adjusted p"]
    return titles, [_comparison(one) for one in found]


def _comparison(one: ItemDifference) -> list[Any]:
    name = ", ".join(filter(None, (one.task, one.column)))
    scores = (fixed(one.first), fixed(one.second))
    smallest, p = fixed(one.smallest), fixed(one.adjusted)
    return [name, one.metric, whole(one.items), *scores, difference(one), smallest, p]


def difference(one: ItemDifference) -> str:
    """Mean, half of its interval, and a star where it is significant."""
    if one.interval is None:
        return signed(one.mean)
    half = fixed((one.interval[1] - one.interval[0]) / 2)
    return f"{signed(one.mean)} ± {half}{'*' if one.is_significant else ''}"
