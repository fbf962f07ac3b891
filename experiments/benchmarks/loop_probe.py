"""`run.py` with a stop-watch around the training step and around evaluations: the last line on
stdout says where the CPU time between the first and the last step went."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from glam import cli
from glam.training import fit
from glam.training.module import TrainingModule

spent = {"steps": 0.0, "evaluations": 0.0}
span: list[float] = []


def watched(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            now = time.process_time()
            spent[name] += now - start
            if name == "steps":
                span[:] = [span[0] if span else start, now]

    return call


if __name__ == "__main__":
    # The closure that Lightning hands to optimizer_step is the forward and the backward pass.
    TrainingModule.optimizer_step = watched(TrainingModule.optimizer_step, "steps")  # type: ignore[method-assign]
    fit.evaluate_domains = watched(fit.evaluate_domains, "evaluations")  # type: ignore[assignment]
    status = cli.main(sys.argv[1:])
    total = span[1] - span[0]
    print(json.dumps({**spent, "all": total, "else": total - sum(spent.values())}))
    sys.exit(status)
