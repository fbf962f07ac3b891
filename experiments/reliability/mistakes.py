"""Mistakes put into the code one at a time, and the test that sees each:
`python -m experiments.reliability.mistakes [word …]`.

Each row of `seeded.csv` replaces a piece of a source file in a copy of the tree and names the test
files that must turn red. Words choose the rows that contain one of them. Prints one line a mistake,
and ends with status 1 where one stays green. Not part of the test suite: it takes minutes.
"""

import csv
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from glam.progress import bar

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("seeded.csv")
COPIED = ("glam", "conf", "tests", "experiments", "hydra_plugins", "docs")
# Its digits hold on one kind of machine, and state no rule.
LEFT_OUT = "tests/training/test_same_digits.py"


class Mistake(NamedTuple):
    """A row of the table. `right` and `wrong` are source, with newlines as \\n."""

    says: str
    file: str
    right: str
    wrong: str
    tests: str  # files or tests, a space between

    def put_into(self, tree: Path) -> str:
        """Returns the file as it was. Raises SystemExit where the source is another by now."""
        path = tree / self.file
        before = path.read_text(encoding="utf-8")
        right, wrong = (text.replace("\\n", "\n") for text in (self.right, self.wrong))
        if right not in before:
            raise SystemExit(f"{self.says}: {self.file} has no {right!r}")
        path.write_text(before.replace(right, wrong), encoding="utf-8")
        return before


def rows(words: Sequence[str]) -> list[Mistake]:
    with TABLE.open(newline="", encoding="utf-8") as lines:
        every = [Mistake(**row) for row in csv.DictReader(lines)]
    return [one for one in every if not words or any(word in " ".join(one) for word in words)]


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    """What the tests need of the repository, in a temporary folder that goes first on the path."""
    with tempfile.TemporaryDirectory(prefix="glam-mistakes-") as folder:
        tree = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, tree / name)
        for file in (*ROOT.glob("*.toml"), *ROOT.glob("*.md"), ROOT / "run.py", ROOT / "Makefile"):
            shutil.copy(file, tree)
        yield tree


def first_red(tree: Path, tests: str) -> str:
    """The first test that fails, "" where none does. In a fork, so that torch is imported once and
    the package anew for every mistake. Raises SystemExit where no test could be run."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        status = 1
        try:
            os.write(sender, _run(tree, tests).encode())
            status = 0
        finally:
            os._exit(status)  # what is below on the stack is the parent's
    os.close(sender)
    with os.fdopen(receiver) as said:
        found = said.read()
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"pytest could not run {tests}")
    return found


def _run(tree: Path, tests: str) -> str:
    import pytest

    class Watch:
        red = ""

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed and not self.red:
                self.red = report.nodeid

        def pytest_collectreport(self, report: pytest.CollectReport) -> None:
            if report.failed and not self.red:
                self.red = f"{report.nodeid} (cannot be imported)"

    os.chdir(tree)
    for name in [name for name in sys.modules if name.split(".")[0] in ("glam", "experiments")]:
        del sys.modules[name]
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    watch, quiet = Watch(), ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    quiet += ["--assert=plain"]  # pytest warns of plugins that are imported before it rewrites them
    ended = pytest.main([*quiet, f"--ignore={LEFT_OUT}", "-m", "not slow", *tests.split()], [watch])
    if ended and not watch.red:
        raise RuntimeError(f"pytest ended with {ended}")
    return watch.red


def main(words: Sequence[str]) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the tests have it
    # Imported before the forks, which share them.
    import lightning, numpy, pytest, safetensors, scipy.stats, sklearn, torch  # noqa

    chosen, missed = rows(words), list[Mistake]()
    with copy_of_the_tree() as tree, bar("mistakes", len(chosen), "mistakes") as running:
        for mistake in chosen:
            before = mistake.put_into(tree)
            red = first_red(tree, mistake.tests)
            (tree / mistake.file).write_text(before, encoding="utf-8")
            print(f"{'red  ' if red else 'GREEN'}  {mistake.says}  {red}", flush=True)
            missed += [] if red else [mistake]
            running.advance()
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mistakes turn a test red")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
