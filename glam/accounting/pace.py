"""How far a machine gets in an hour, modelled: good to a factor of two, which a plan can use."""

from glam.config import RunConfig
from glam.resources import Resources

# FLOP/s in training: half of the matrix product's peak measured on a Zen 4 core (float32 87, with
# AVX512_bf16 200 GFLOP/s); a third of an A100's tensor cores; half of an M2's GPU.
FLOPS_PER_CORE = {"float32": 40e9, "bfloat16": 90e9}
FLOPS_PER_DEVICE = {"cuda": 100e12, "mps": 1.5e12}
BACKWARD = 3  # forward once, backward twice


def flops_per_second(resources: Resources) -> float:
    device = FLOPS_PER_DEVICE.get(resources.device)
    return device or resources.threads * FLOPS_PER_CORE[resources.precision]


def tokens_per_hour(config: RunConfig, resources: Resources) -> float:
    """Trained on, backward included."""
    passes = BACKWARD + (1 if config.training.rematerialize else 0)
    return 3600 * flops_per_second(resources) / (passes * config.flops_per_token)
