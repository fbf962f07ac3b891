"""Shapes are checked while the tests run: jaxtyping and beartype see every call of the model."""

import os

# Before torch: one thread a worker, so that two workers do not fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

import hypothesis
import pytest
from jaxtyping import install_import_hook

install_import_hook("glam.model", "beartype.beartype")

# No test asserts on time: a machine may be slow, or have other work.
hypothesis.settings.register_profile(
    "house", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("house")


@pytest.fixture
def kernels_here() -> None:
    """For what torch's operators would do otherwise."""
    from glam import kernels

    if kernels.library() is None:
        pytest.skip("no C compiler here, or GLAM_KERNELS=off")


@pytest.fixture(autouse=True)
def told() -> None:
    """Lines of the logger go to stderr, as at the command line."""
    from glam import log

    log.configure()
