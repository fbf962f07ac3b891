"""Shapes are checked while the tests run: jaxtyping and beartype see every call of the model."""

import os
import signal
import sys
from pathlib import Path

# Before torch: one thread a worker, so that two workers do not fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# … and it would load torch_tpu, with warnings, which are errors here.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
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


sys.path.append(str(Path(__file__).parent / "config"))  # config_fields.py

# A shell that starts the tests in the background, and nohup, have signals ignored from the start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


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


@pytest.fixture(scope="session")
def save_weights():
    """`save_weights(run, weights, step)`: the checkpoint of a finished run, in its folder."""

    def save(run, weights, step):
        from glam.runs.checkpoints import step_folder
        from glam.training.checkpoint import FolderCheckpointIO

        path = step_folder(run / "checkpoints", step)
        checkpoint = {
            "pytorch-lightning_version": "2.6.6",
            "epoch": 0,
            "global_step": step,
            "state_dict": {f"model.{name}": value for name, value in weights.items()},
            "optimizer_states": [{"state": {}, "param_groups": []}],
            "training": {"step": step, "tokens": 32 * step, "status": "done"},
        }
        FolderCheckpointIO({}).save_checkpoint(checkpoint, path)
        return path

    return save
