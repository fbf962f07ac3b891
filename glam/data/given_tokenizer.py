"""A SentencePiece model that is given takes the tokenizer's place, where text comes back exactly.

Losses are per byte of text, whatever the tokenizer: so every text has to be encodable, its tokens'
bytes have to add up to its own, and decoding has to give it back.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
import os
from pathlib import Path
from typing import Any

import sentencepiece

from glam.config import typed_path
from glam.data.tokenizer import MODEL, SPACE, VOCAB
from glam.errors import UserError, first_line
from glam.log import log

KEY = "data.tokenizer"
VERSION = 1  # of what is changed of a model
MOST_BYTES = 255  # of a piece
_WAY_OUT = "name another, or leave it out: one then learns from the text"


def given_model(named: str) -> Path:
    """The file that `data.tokenizer` names: a `.model`, or that of a folder, such as a run's.
    Raises UserError where there is none."""
    path = typed_path(KEY, named)
    for file in (path / MODEL, path):
        if file.is_file() and not os.access(file, os.R_OK):
            raise UserError(f"{KEY}={named}: {file} cannot be read; make it readable")
        if file.is_file():
            return file
    what = f"holds no {MODEL}" if path.is_dir() else "is not there"
    raise UserError(
        f"{KEY}={named} {what}; name a SentencePiece .model, or a folder with {MODEL}, as a run's"
    )


def import_tokenizer(file: Path, folder: Path) -> None:
    """Write the tokenizer of a SentencePiece model into `folder`. What it would change of white
    space is left out, and said. Raises UserError for what is no such model, and for one from
    which text would not come back."""
    model = _read(file)
    _check(model, file)
    changes = _keep_white_space(model)
    if changes:
        log.warning(f"{KEY}={file}: left out, so that text comes back: {', '.join(changes)}")
        (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    else:
        (folder / MODEL).write_bytes(file.read_bytes())
    # As SentencePiece's trainer writes it.
    lines = [f"{each.piece}\t{each.score:g}\n" for each in model.pieces]
    (folder / VOCAB).write_text("".join(lines), encoding="utf-8", newline="")
    try:
        sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL))
    except (RuntimeError, OSError) as error:
        raise _refused(file, f"is damaged ({first_line(error)})") from None


def _read(file: Path) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    library: Any = sentencepiece_model_pb2
    model = library.ModelProto()
    try:
        model.ParseFromString(file.read_bytes())
    except (DecodeError, OSError) as error:
        raise _refused(file, f"cannot be read ({first_line(error)})") from None
    if not model.pieces:
        raise _refused(file, "is no model of SentencePiece")
    return model


def _refused(file: Path, reason: str) -> UserError:
    return UserError(f"{KEY}={file} {reason}; {_WAY_OUT}")


def _check(model: Any, file: Path) -> None:
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    single_bytes = sum(piece.type == piece.BYTE for piece in model.pieces)
    names = {piece.piece for piece in model.pieces}
    signs = {piece.piece for piece in model.pieces if piece.type == piece.CONTROL}
    if normalizer.precompiled_charsmap:
        reason = f"normalises text ({normalizer.name or 'by a table'}), which would not come back"
    elif not trainer.byte_fallback or single_bytes != 256:
        reason = "has no pieces for single bytes, so text that it has no piece for would be lost"
    elif SPACE not in names:
        reason = "has no piece for a space"
    elif trainer.treat_whitespace_as_suffix or not normalizer.escape_whitespaces:
        reason = "writes white space in a way of its own"
    elif trainer.model_type not in (trainer.UNIGRAM, trainer.BPE):
        reason = "is neither unigram nor BPE"
    elif not {trainer.bos_piece, trainer.eos_piece} <= signs:
        reason = "has no pieces that begin and end a document"
    elif max(len(name.encode()) for name in names) > MOST_BYTES:
        reason = f"has a piece of more than {MOST_BYTES} bytes"
    else:
        return
    raise _refused(file, reason)


def _keep_white_space(model: Any) -> list[str]:
    """Take from the model what adds or removes white space. Returns what that was, in words."""
    changes: list[str] = []
    if model.normalizer_spec.add_dummy_prefix:
        model.normalizer_spec.add_dummy_prefix = False
        changes.append("a space before every text")
    if model.normalizer_spec.remove_extra_whitespaces:
        model.normalizer_spec.remove_extra_whitespaces = False
        changes.append("several spaces as one")
    if model.denormalizer_spec.precompiled_charsmap:
        model.denormalizer_spec.precompiled_charsmap = b""
        changes.append("changes of what is decoded")
    return changes
