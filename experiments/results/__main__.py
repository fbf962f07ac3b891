"""`python -m experiments.results [cost] [STUDY …] [--again] [--runs=FOLDER]`: every study again.

Prints what each costs, trains what neither its committed table nor the runs folder has, writes its
table and figures, and renders the pages. Stopped or killed, the same command goes on.

cost            prints the costs alone
STUDY           these studies alone; without one, all
--again         trains what the committed tables have, too, unless it lies in the runs folder
--runs=FOLDER   of the runs, by default runs/results; a run that two studies have is trained once
"""

import sys
from collections.abc import Sequence

from experiments.results.registry import EVERY
from experiments.results.study import Study
from experiments.tables import refuse
from glam.errors import UserError

RUNS = "runs/results"


def main(arguments: Sequence[str], every: Sequence[Study] = EVERY) -> int:
    """Returns the exit status. Raises SystemExit with it for bad input and for a line that
    failed."""
    from experiments.results.runner import Results

    options = [word for word in arguments if word.startswith("-")]
    runs = [word.partition("=")[2] for word in options if word.startswith("--runs=")]
    others = [word for word in options if not word.startswith("--runs=") and word != "--again"]
    if {"-h", "--help"} & {*others}:
        print(__doc__)
        return 0
    if others or "" in runs:
        refuse(f"{(others or ['--runs='])[0]}: there are --again and --runs=FOLDER")
    named = [word for word in arguments if word not in options]
    only_cost = named[:1] == ["cost"]
    try:
        again = "--again" in options
        results = Results(every, named[only_cost:], [RUNS, *runs][-1], again=again)
        print(results.cost()) if only_cost else results.run()
    except UserError as error:
        refuse(str(error))
    except KeyboardInterrupt:  # between two lines: these have stopped themselves
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
