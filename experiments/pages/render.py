"""Pages rendered by cog: the blocks of a page run, and their output put in their places."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

from cogapp import Cog
from cogapp.errors import CogError

from experiments.pages.tables import NotTrainedError

Functions = Mapping[str, Callable[..., object]]


class PageError(Exception):
    """One line: the page, the line of its block, and what is wrong with it."""


def rendered(text: str, name: str, functions: Functions) -> str:
    """The page with its blocks anew. Raises PageError for a block that cannot be."""
    cog = Cog()
    cog.options.print_output = True
    known = {word: _printing(function) for word, function in functions.items()}
    page = io.StringIO()
    try:
        cog.process_file(io.StringIO(text), page, fname=name, globals=known)
    except CogError as error:
        why = str(error).strip().splitlines()[-1]
        line = getattr(cog.cogmodule, "firstLineNum", 1)
        raise PageError(why if why.startswith(name) else f"{name}:{line}: {why}") from error
    return page.getvalue()


def _printing(function: Callable[..., object]) -> Callable[..., None]:
    """A table that is not there yet leaves a sentence, so that every page renders at any time."""

    def printed(*arguments: object, **options: object) -> None:
        try:
            told = str(function(*arguments, **options))
        except NotTrainedError as absent:
            told = f"*Not trained yet: there is no `{absent}`.*"
        if told:
            print(told)

    return printed


def changed_line(before: str, after: str) -> int | None:
    """The first line, from 1, that differs."""
    old, new = before.splitlines(), after.splitlines()
    for place, (one, other) in enumerate(zip(old, new, strict=False), start=1):
        if one != other:
            return place
    return None if len(old) == len(new) else min(len(old), len(new)) + 1


def pages(root: Path) -> list[Path]:
    """Those that have a block."""
    found = [root / "README.md", *root.glob("docs/*.md"), *root.glob("experiments/*/README.md")]
    return sorted(page for page in found if "[[[cog" in page.read_text(encoding="utf-8"))
