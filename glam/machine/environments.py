"""The second virtual environment, `.venv-xla`, which has torch_xla."""

import importlib.util
import logging
import os
import sys

from glam.config import ROOT
from glam.errors import UserError


def to_xla_environment(what: str) -> None:
    """Returns where torch_xla is installed; else runs the same command with the interpreter of
    .venv-xla in place of this process. Raises UserError where there is no .venv-xla."""
    if importlib.util.find_spec("torch_xla") is not None:
        # flax misses TensorFlow, which nothing here needs.
        logging.getLogger("absl").setLevel(logging.ERROR)
        return
    python = ROOT / ".venv-xla" / "bin" / "python"
    if not (python.parent.parent / "ready").exists():
        raise UserError(
            f"{what} needs torch_xla, which is not installed; "
            f"make xla builds .venv-xla (a few minutes, 7 GB)"
        )
    # Read when the library is loaded: its notes on every compilation concern its developers.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stdout.flush()
    os.execv(python, [str(python), *sys.argv])
