"""A step has the same bits with one thread and with two, where MKL can be told to sum alike."""

import subprocess
import sys

import pytest
import torch

from glam.config import ROOT
from glam.machine.processor import processor

STEP = """
import sys
from glam.config import ModelConfig, RunConfig
from glam.machine.resources import pin_threads, resolve
pin_threads(resolve(RunConfig()))  # before torch, as a run does
import torch
from glam.model import Glam

model = Glam(ModelConfig(num_layers=2, num_experts=int(sys.argv[1])))
torch.manual_seed(0)
tokens = torch.randint(0, 2048, (8, 129))
made = []
for threads in (1, 2):
    torch.set_num_threads(threads)
    model.zero_grad()
    for rows in tokens.split(4):  # gradients of two passes, added
        output = model.loss(rows[:, :-1], rows[:, 1:])
        (output.loss + output.balance_loss).backward()
    made.append([output.loss, *(weight.grad.clone() for weight in model.parameters())])
print(all(torch.equal(one, two) for one, two in zip(*made, strict=True)))
"""


@pytest.mark.skipif("Intel" not in processor().name, reason="MKL is told so on Intel's alone")
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch has no MKL here")
@pytest.mark.parametrize("experts", [1, 8])
def test_a_step_in_float32_has_the_same_bits_with_two_threads(experts):
    command = [sys.executable, "-c", STEP, str(experts)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "True"
