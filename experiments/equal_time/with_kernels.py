"""`python -m experiments.equal_time.with_kernels`: the study's question at three minutes again, on
`glam/kernels`: 16 experts and the dense twin, unfiltered text, five seeds. Calibrates as the study
does, two runs at a time; writes with_kernels.csv and prints the differences."""

import json
import statistics
import sys
from pathlib import Path

from experiments.equal_time import study
from experiments.equal_time.study import MEANS, ROUNDED, STUDY, TRIAL, Row

FOLDER = Path(__file__).parent
CALIBRATION, RESULTS = FOLDER / "with_kernels.json", FOLDER / "with_kernels.csv"
DATA, BUDGET, EXPERTS = "unfiltered", 180, (1, 16)


def speeds() -> dict[str, list[float]]:
    """Tokens per second, measured once."""
    if not CALIBRATION.is_file():
        few = ("evaluation.points=0", "evaluation.tokens_per_domain=1024", "rerun=true")
        found = {
            str(experts): [
                run["tokens_per_second"]
                for run in study.grid(
                    experts, TRIAL, range(90, 94), DATA, "calibrate_kernels", *few
                )
            ]
            for experts in EXPERTS
        }
        CALIBRATION.write_text(json.dumps(found, indent=1) + "\n")
    return json.loads(CALIBRATION.read_text())


def rows() -> list[Row]:
    half, found = STUDY[DATA], list[Row]()
    for experts in EXPERTS:
        pace = statistics.median(speeds()[str(experts)])
        tokens = round(BUDGET * pace / ROUNDED) * ROUNDED
        for run in study.grid(experts, tokens, half.seeds, DATA, "equal_time_kernels"):
            loss = dict(run["loss"])
            loss["trained on"] = statistics.mean(loss[name] for name in half.trained_on)
            place = (DATA, BUDGET, experts, int(run["seed"]), tokens)
            found.append(Row(*place, run["train_seconds"], loss))
    return found


def main() -> int:
    found = rows()
    with RESULTS.open("w", newline="") as file:
        study.write(found, file)
    for domain in (*MEANS, *(name for name in found[0].loss if name not in MEANS)):
        print(f"{domain}:", study.told(found, DATA, BUDGET, EXPERTS[1], domain))
    return 0


if __name__ == "__main__":
    sys.exit(main())
