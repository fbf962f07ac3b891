"""`task=export`: a trained run as a folder that Hugging Face's libraries load."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from glam.config import ROOT, RunConfig, typed_path
from glam.errors import UserError
from glam.log import log
from glam.progress import stage
from glam.runs.folder import RunFolder
from glam.runs.record import Record
from glam.tasks.trained import experts_as_asked, load_tokenizer, trained_run

if TYPE_CHECKING:
    from glam.data import Tokenizer
    from glam.model import Glam


def export(config: RunConfig, overrides: list[str]) -> None:
    """Export a run to `export.path`, and print where that is."""
    run, config = trained_run(config, overrides)
    assert config.export.path is not None
    folder = new_folder(config.export.path)
    with stage("loading PyTorch"):
        from glam.model import Glam

    model = experts_as_asked(Glam.from_run(run.path), config)
    export_to(folder, run, config, model, load_tokenizer(run, config))
    log.info(f"{run.path.name} is exported; transformers loads it with trust_remote_code=True")
    print(folder)


def new_folder(path: str | Path) -> Path:
    """The folder that is exported to. Raises UserError, before the work, where it is there already
    or a package is missing."""
    if importlib.util.find_spec("tokenizers") is None:
        raise UserError(
            "the package tokenizers is not installed; pip install -e '.[huggingface]' brings it"
        )
    from glam.export import check_free

    folder = ROOT / typed_path("export.path", str(path))
    check_free(folder)
    return folder


def export_to(
    folder: Path, run: RunFolder, config: RunConfig, model: "Glam", tokenizer: "Tokenizer"
) -> None:
    """Write the new folder, with a card made of what the run recorded."""
    from glam.export import export_model

    export_model(folder, model, tokenizer, config, Record.read(run.path))
