"""What a compiler is given of a model: each layer in one piece."""

import subprocess
import sys

import pytest

from glam import kernels
from glam.config import ROOT

# In a process without the checks of shapes under which tests run: torch.compile cannot see through
# those. A dense layer and a sparse one, as they are on a device that compiles, in float64.
CODE = """
import torch
from glam.config import ModelConfig
from glam.model import Glam
from glam.model.attention.attention import Attention
from glam.model.backend import Backend

Attention._on_cpu = Attention._by_operators
sizes = {"num_layers": 2, "d_model": 8, "d_ff": 12, "num_heads": 2, "num_experts": 4}
torch.manual_seed(0)
config = ModelConfig(**sizes, dispatcher="capacity")
for layer in Glam(config, backend=Backend(one_shape=True)).double().layers:
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 6, 8, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=False)
    given, found = [x, *layer.parameters()], []
    for call in (layer, compiled):
        y = call(x, None)[0]
        loss = y.square().sum()
        found.append([y, *torch.autograd.grad(loss, given, materialize_grads=True)])
    torch.testing.assert_close(*found)
    print(len(given), "gradients")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("torch_of_gpus")
def test_torch_compile_takes_each_layer_as_one_graph_that_computes_the_same():
    line = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("gradients") == 2


# The same with the kernels of this CPU, in float32, which take the layers as they are.
WITH_KERNELS = """
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from glam.config import ModelConfig
from glam.model import Glam

torch.manual_seed(0)
sizes = {"num_layers": 2, "d_model": 8, "d_ff": 12, "num_heads": 2, "num_experts": 4}
for layer in Glam(ModelConfig(**sizes)).layers:
    x = torch.randn(2, 6, 8, requires_grad=True)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, fullgraph=True, dynamic=False)
    given, found = [x, *layer.parameters()], []
    for call in (layer, compiled):
        y = call(x, None)[0]
        found.append([y, *torch.autograd.grad(y.square().sum(), given, materialize_grads=True)])
    torch.testing.assert_close(*found, rtol=0, atol=0)
    (graph,) = counter.graphs
    parts = [part.graph for part in graph.modules() if isinstance(part, torch.fx.GraphModule)]
    called = {str(node.target) for part in parts for node in part.nodes}
    print(sum(name.startswith("glam.") for name in called), "kernels")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("torch_of_gpus")
@pytest.mark.skipif(kernels.library() is None, reason="no C compiler")
def test_a_layer_with_kernels_is_one_graph_too_and_gives_the_same_bits():
    line = [sys.executable, "-W", "ignore", "-c", WITH_KERNELS]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    dense, sparse = (int(line.split()[0]) for line in done.stdout.splitlines())
    assert dense >= 8
    assert sparse > dense
