"""The files of an exported folder. It is there whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from glam.config import RunConfig
from glam.data import Tokenizer
from glam.errors import UserError, first_line
from glam.export.card import model_card
from glam.export.tokenizer import write_tokenizer
from glam.files import to_json
from glam.model import Glam
from glam.model.saved import EMBEDDING, EXPORTED_EMBEDDING
from glam.model.saved_tensors import SAVE_ERRORS, save_tensors
from glam.runs.checkpoints import checksum
from glam.runs.exported import CONFIG, MODEL_TYPE, WEIGHTS, shape_of
from glam.runs.initial import VOCABULARY
from glam.runs.record import Record

MODELING = "modeling_glam"
CLASSES = {"AutoConfig": "GlamConfig", "AutoModelForCausalLM": "GlamForCausalLM"}


def check_free(folder: Path) -> None:
    """Raises UserError, before the work, where the folder cannot be a new one."""
    if os.path.lexists(folder):
        raise UserError(f"export.path={folder} is there already; name a new folder")


def export_model(
    folder: Path, model: Glam, tokenizer: Tokenizer, config: RunConfig, record: Record
) -> None:
    """Write the new `folder`: weights, tokenizer, the code of the model, and a card made of what
    the run recorded. It is written beside its place and renamed. Raises UserError where it is
    there already or cannot be written; nothing is left then."""
    check_free(folder)
    part = folder.with_name(f".{folder.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        _fill(part, model, tokenizer, config, record)
        part.rename(folder)
    except SAVE_ERRORS as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UserError(f"export.path={folder} is there already; name a new folder") from None
        reason = error.strerror if isinstance(error, OSError) else None
        raise UserError(
            f"export.path={folder} cannot be written ({reason or first_line(error)}); free some "
            f"space, or name another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fill(part: Path, model: Glam, tokenizer: Tokenizer, config: RunConfig, record: Record) -> None:
    weights = exported_names({name: value.cpu() for name, value in model.state_dict().items()})
    save_tensors(weights, part / WEIGHTS, format="pt")
    write_tokenizer(part, tokenizer, config.training.sequence_length)
    vocabulary = checksum(part / VOCABULARY).sha256
    special = {
        "bos_token_id": tokenizer.bos,
        "eos_token_id": tokenizer.eos,
        "pad_token_id": tokenizer.eos,
    }
    shape = shape_of(config.model) | {"tokenizer_sha256": vocabulary}
    length = config.training.sequence_length
    (part / CONFIG).write_text(to_json(_config(shape, length) | special), encoding="utf-8")
    (part / "generation_config.json").write_text(to_json(special), encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name(f"{MODELING}.py"), part / f"{MODELING}.py")
    (part / "README.md").write_text(model_card(config, record), encoding="utf-8")


def exported_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names that they have in an exported folder."""
    return {EXPORTED_EMBEDDING if name == EMBEDDING else name: weights[name] for name in weights}


def _config(shape: dict[str, Any], sequence_length: int) -> dict[str, Any]:
    return {
        "model_type": MODEL_TYPE,
        "architectures": [CLASSES["AutoModelForCausalLM"]],
        "auto_map": {auto: f"{MODELING}.{name}" for auto, name in CLASSES.items()},
        "dtype": "float32",
        "max_position_embeddings": sequence_length,
        **shape,
    }
