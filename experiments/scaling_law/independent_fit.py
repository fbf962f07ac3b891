"""`<python> independent_fit.py LAW <runs.csv> <points.csv>`: a fit by simple-scaling-laws, which
has an environment of its own. Prints constants, their 90 % intervals and predictions as JSON;
called by `experiments.scaling_law.independent`."""
# The package is not in this project's environment.
# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import json
import sys
import warnings
from pathlib import Path

import polars as pl  # pyright: ignore[reportMissingModuleSource]
from simple_scaling_laws import fit

TARGET = "test_loss__mean"
LEVEL = 0.9


def main(law: str, runs: str, points: str) -> None:
    warnings.simplefilter("ignore", UserWarning)  # that a point is beyond the runs
    model = fit(pl.read_csv(Path(runs)), law=law, n_draws=400, seed=0)
    frame = model.predict(pl.read_csv(Path(points)), quantiles=[0.05, 0.5, 0.95])
    names = [f"{TARGET}__q050", f"{TARGET}__median", f"{TARGET}__q950"]
    told = {
        "constants": model.params(TARGET),
        "intervals": model.conf_int(TARGET, level=LEVEL),
        "notes": [note.code for note in model.warnings],
        "predictions": [[row[name] for name in names] for row in frame.iter_rows(named=True)],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
