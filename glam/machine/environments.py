"""Environments with a TPU's compiler: the main one with the extra `tpu`, which has torch_tpu, and
the second one, `.venv-xla`, which has torch_xla."""

import importlib.util
import logging
import os
import sys

from glam.config import ROOT
from glam.errors import UserError

# The extra `tpu`: what is used of these is not public, so no other version will do.
TPU_PACKAGES = {
    "torch_tpu": "0.2.0",
    "libtpu": "0.0.52",
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
}
TORCH_OF_TPU = "2.13"


def default_route() -> str:
    """What makes programs for the TPU's compiler here: torch_tpu | torch_xla. Raises UserError
    where neither is installed."""
    if importlib.util.find_spec("torch_tpu") is not None:
        return "torch_tpu"
    if importlib.util.find_spec("torch_xla") is not None or _has_xla_environment():
        return "torch_xla"
    raise UserError(
        "task.compile=true needs torch_tpu, which is not installed; make tpu adds it to this "
        "environment (1.3 GB)"
    )


def check_torch_tpu(what: str) -> None:
    """Raises UserError where a package of the extra `tpu` is missing or of another version."""
    from importlib import metadata

    for package, needed in {**TPU_PACKAGES, "torch": TORCH_OF_TPU}.items():
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{what} needs {package} {needed}, which is not installed; make tpu adds it to "
                f"this environment (1.3 GB)"
            )
        found = metadata.version(package)
        if found != needed and not found.startswith(f"{needed}."):
            raise UserError(
                f"{what} needs {package} {needed}, and {found} is installed: torch_tpu is used by "
                f"functions that other versions may not have; make tpu brings the versions that "
                f"fit each other"
            )
    # Read when the libraries are loaded: their notes concern their developers. Errors are raised
    # too, and their stack traces are of C++.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def to_xla_environment(what: str) -> None:
    """Returns where torch_xla is installed; else runs the same command with the interpreter of
    .venv-xla in place of this process. Raises UserError where there is no .venv-xla."""
    if importlib.util.find_spec("torch_xla") is not None:
        # flax misses TensorFlow, which nothing here needs.
        logging.getLogger("absl").setLevel(logging.ERROR)
        return
    if not _has_xla_environment():
        raise UserError(
            f"{what} needs torch_xla, which is not installed; "
            f"make xla builds .venv-xla (a few minutes, 7 GB)"
        )
    python = ROOT / ".venv-xla" / "bin" / "python"
    # Read when the library is loaded: its notes on every compilation concern its developers.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stdout.flush()
    os.execv(python, [str(python), *sys.argv])


def _has_xla_environment() -> bool:
    return (ROOT / ".venv-xla" / "ready").exists()
