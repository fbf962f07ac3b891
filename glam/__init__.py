"""GLaM: config-driven Mixture-of-Experts language-model research (arXiv 2112.06905).

run = glam.load("latest")
print(run.generate("The people of"), run.loss("The people of this nation").bits_per_byte)
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

# Where torch_tpu is installed, `import torch` would import it: for seconds, and with warnings. What
# asks for a TPU imports it itself. A value that is set already stays.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")

if TYPE_CHECKING:
    from glam.tasks.load import LoadedRun

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def load(
    run: str | Path = "latest", *, runs_dir: str | Path | None = None, device: str = "auto"
) -> "LoadedRun":
    """A trained run: `model`, `tokenizer`, `config`, `generate(prompt)` and `loss(text)`.

    `run` is a run's folder, `latest` (the newest that is done) or the unique beginning of a run's
    name or id, looked for in `runs_dir`, by default `runs/` of the repository. `device` is auto,
    cpu, gpu or mps. Raises glam.errors.UserError, a ValueError, where there is no such run, or it
    has no checkpoint.
    """
    from glam.config import ROOT
    from glam.tasks.load import load

    return load(run, runs_dir=runs_dir or ROOT / "runs", device=device)
