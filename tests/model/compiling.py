"""Trains small models through `torch.compile` and traces large ones on the meta device, and prints
what came of it. A process of its own: the checks of shapes that tests put around every function
cannot be compiled.

python compiling.py train|trace [MODEL…]
"""

import json
import sys
import warnings
from dataclasses import replace

import torch
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch.nn.attention import flex_attention as torch_flex

from glam.config import ModelConfig, RouterConfig
from glam.kernels import calls
from glam.model import Glam
from glam.model.backend import Backend
from glam.model.fused_layers import FusedLayers
from glam.model.moe.experts_float8 import grouped_float8
from glam.model.moe.grouped import grouped_static

# As on a GPU: no kernels of a CPU, and a backward pass of attention, by torch's definition of it.
calls.supported = lambda *tensors: False
torch_flex._validate_device = lambda *tensors: None

SMALL = ModelConfig(vocab_size=64, num_layers=4, d_model=32, d_ff=64, num_heads=2, num_experts=4)
KINDS = {
    "sparse": SMALL,
    "dense": replace(SMALL, num_experts=1),
    "random": replace(SMALL, router=RouterConfig(second_policy="random", balance_loss="z_loss")),
    "capacity": replace(SMALL, dispatcher="capacity"),
    "gate": replace(SMALL, dispatcher="capacity", priority="gate", capacity_factor=1.0),
    "loss_free": replace(SMALL, router=RouterConfig(balance_loss="loss_free")),
}


def fused(config, backend, *, whole=True, again=False, experts=grouped_static):
    layers = FusedLayers(whole=whole, rematerialize=again, backend=backend)
    grouped = {"dispatcher": lambda _: experts} if config.dispatcher == "grouped" else {}
    return Glam(config, dtype=torch.bfloat16, backend=Backend(run_layers=layers, **grouped))


def results(model, seed):
    """Loss, load and gradients, of routing and documents that depend on the seed."""
    torch.manual_seed(seed)
    tokens, targets = torch.randint(model.config.vocab_size, (2, 2, 50))
    segments = (torch.arange(50) // (11 + seed)).repeat(2, 1)
    output = model.loss(tokens, targets, segments)
    total = output.loss + output.balance_loss
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    return [total, output.load, *torch.autograd.grad(total, learning)]


def trained(config, again):
    """Programs, and the largest difference from layers that run operator by operator."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled, plain = fused(config, counter, again=again), fused(config, None, whole=False)
    plain.load_state_dict(compiled.state_dict())
    worst = 0.0
    for seed in range(3):
        for mine, theirs in zip(results(compiled, seed), results(plain, seed), strict=True):
            difference = (mine - theirs).norm() / theirs.norm().clamp(min=1e-6)
            worst = max(worst, difference.item())
    return {"programs": counter.frame_count, "difference": worst}


def traced(config, **form):
    """Programs of one layer of every kind, of the model's own sizes. No weight is in memory."""
    torch._dynamo.reset()
    counter = CompileCounter()
    with torch.device("meta"):
        model = fused(replace(config, num_layers=max(2, config.moe_every)), counter, **form)
    x = torch.empty(1, 256, config.d_model, dtype=torch.bfloat16, device="meta", requires_grad=True)
    segments = torch.zeros(1, 256, dtype=torch.int64, device="meta")
    for _ in range(2):
        x_out, _ = model._run_layers(model.layers, x, segments)
        x_out.sum().backward()
    kinds = {type(layer.ffn) for layer in model.layers}
    return {"programs": counter.frame_count, "kinds": len(kinds)}


def main(what, *names):
    warnings.simplefilter("ignore")
    if what == "train":
        return {
            f"{name} {again}": trained(KINDS[name], again)
            for name in names
            for again in (False, True)
        }
    from hydra import compose, initialize_config_dir

    from glam.composition.overrides import CONF
    from glam.composition.schema import register, to_run_config

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        models = {n: to_run_config(compose("config", [f"model={n}"])).model for n in names}
    found = {name: traced(model) for name, model in models.items()}
    in_fp8 = traced(models[names[0]], experts=grouped_float8)
    return {**found, f"{names[0]} in FP8": in_fp8}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
