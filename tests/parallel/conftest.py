"""XLA trains the toy of tests/training (toy.py)."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "training"))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
