"""The toy run of tests/training, and what W&B would show of a session recorded offline."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))


@pytest.fixture
def recorded():
    """Reads what a folder's one session recorded offline: wandb's own reader makes one JSON
    object a record."""

    def read(folder):
        [log] = folder.glob("wandb/offline-run-*/*.wandb")
        command = [Path(sys.executable).parent / "wandb", "leet", "inspect", "--json", log]
        told = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        return [json.loads(line) for line in told.stdout.splitlines()]

    return read
