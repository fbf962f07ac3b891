"""XLA trains the toy of tests/training (toy.py)."""

import sys
from pathlib import Path

import pytest
import torch

sys.path += [str(Path(__file__).parents[1] / "training"), str(Path(__file__).parent)]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
