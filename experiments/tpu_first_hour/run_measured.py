"""`run.py`, of which every process leaves its peak memory in the folder GLAM_PEAKS at its end. The
launcher starts the processes with this file too."""

import json
import os
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, as for run.py

from glam.cli import main
from glam.machine.processes import rank, under_torchrun


def peak() -> dict[str, float]:
    """Bytes of this process: of its chip, where torch counts them, and of the host."""
    import torch

    found = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0}
    if torch.accelerator.is_available():
        found["chip"] = float(torch.accelerator.max_memory_allocated())
    return found


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if under_torchrun():
        Path(os.environ["GLAM_PEAKS"], f"{rank()}.json").write_text(json.dumps(peak()))
        sys.stderr.flush()
        os._exit(status)  # as run.py
    sys.exit(status)
