"""`python -m experiments.preparation [WHAT ...]`: measure what preparing text takes.

    sizes       the whole recipe on 100 MB to 5 GB: memory, time and disk  (sizes, stages)
    line        one line of 5 GB is read  (line)
    files       a million small files are listed and read  (files)
    vocabulary  pieces are learnt from a sample  (vocabulary)
    formats     what a core reads of each format in a second  (formats)
    project     no measurement: the figure, and hours and dollars of more text  (projection)

Without a name, all of them. Each writes its rows to `<name>.csv`, and leaves alone rows that are
there: take a line out to measure it again. `sizes 100 300` measures those sizes alone.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.preparation import formats, project, reading, sizes, vocabulary

WHAT: dict[str, Callable[[Path], None]] = {
    "sizes": sizes.main,
    "line": reading.line,
    "files": reading.files,
    "vocabulary": vocabulary.main,
    "formats": formats.main,
    "project": project.main,
}


def main(words: Sequence[str], scratch: Path) -> None:
    chosen = [int(word) for word in words if word.isdigit()]
    for name in [word for word in words if not word.isdigit()] or WHAT:
        if name == "sizes" and chosen:
            sizes.main(scratch, chosen)
        else:
            WHAT[name](scratch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m experiments.preparation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*WHAT, *map(str, sizes.SIZES)]
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(names))
    parser.add_argument("--scratch", type=Path, help="where up to 20 GB of text is written")
    typed = parser.parse_args()
    if unknown := [word for word in typed.what if word not in names]:
        parser.error(f"no measurement {unknown[0]!r}; there are {', '.join(names)}")
    if typed.scratch is not None:
        main(typed.what, typed.scratch.absolute())
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(typed.what, Path(folder))
