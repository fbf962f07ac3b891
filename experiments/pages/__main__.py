"""`python -m experiments.pages [--check] [PAGE …]`: writes the numbers of pages anew, in place; of
all that have a block where none is named (a name of a study stands for its README.md). With
`--check` nothing is written, and the status is 1 where a page differs from its tables."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.pages.blocks import FUNCTIONS
from experiments.pages.render import PageError, changed_line, pages, rendered
from experiments.pages.tables import STUDIES
from experiments.tables import refuse

ROOT = STUDIES.parent


def named(word: str) -> Path:
    """Raises SystemExit for what is no page."""
    for page in (STUDIES / word / "README.md", Path(word)):
        if page.is_file():
            return page.resolve()
    return refuse(f"{word} is no study and no page; name one of experiments/, or a file")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("pages", nargs="*", metavar="PAGE")
    options = parser.parse_args(arguments)
    differing = 0
    for page in [named(word) for word in options.pages] or pages(ROOT):
        before = page.read_text(encoding="utf-8")
        name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else str(page)
        try:
            after = rendered(before, name, FUNCTIONS)
        except PageError as error:
            return refuse(str(error))
        line = changed_line(before, after)
        if line is None:
            continue
        differing += 1
        if options.check:
            print(f"{name}:{line} differs from the tables; python -m experiments.pages {name}")
        else:
            page.write_text(after, encoding="utf-8")
            print(f"written {name}")
    return int(bool(differing and options.check))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
