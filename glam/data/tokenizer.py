"""SentencePiece unigram with byte fallback, trained once and named by its vocabulary."""

# pyright: reportMissingTypeStubs=false
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from glam.data.hashing import digest, file_digest
from glam.data.unigram import SPACE, Piece, Unigram, can_encode
from glam.errors import UserError, first_line
from glam.kernels import text_library

VERSION = 1
_SMALLEST = 262  # 256 bytes, unknown, beginning, end, newline, space and a letter
# Text may hold SentencePiece's own signs, for unknown text and for a space. It is encoded by their
# bytes.
_UNKNOWN = "\u2585"
_BYTE = re.compile("<0x[0-9A-F]{2}>")
MODEL, VOCAB = "tokenizer.model", "tokenizer.vocab"


class Tokenizer:
    """Text to tokens and back, without loss for any text that UTF-8 can hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Typed loosely: sentencepiece ships no types.
        try:
            self._model: Any = sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL))
            vocabulary = file_digest(folder / VOCAB)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{folder}: its tokenizer cannot be read ({first_line(error)}); bring back "
                f"{MODEL} and {VOCAB}"
            ) from None
        self.fingerprint = self._fingerprint(vocabulary)
        self.vocab_size: int = self._model.vocab_size()
        self.bos: int = self._model.bos_id()
        self.eos: int = self._model.eos_id()
        self.unknown: int = self._model.unk_id()
        self._space: list[int] = [self._model.piece_to_id(f"<0x{b:02X}>") for b in SPACE.encode()]
        self.num_bytes: NDArray[np.uint8] = np.array(
            [self._num_bytes(token) for token in range(self.vocab_size)], np.uint8
        )

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a tokenizer lies in `folder`."""
        return (folder / MODEL).is_file() and (folder / VOCAB).is_file()

    def copy_to(self, folder: Path) -> None:
        """Copy the tokenizer's two files into `folder`, each whole or not at all."""
        for name in (VOCAB, MODEL):
            part = folder / f".{name}.part"
            shutil.copyfile(self.folder / name, part)
            part.replace(folder / name)

    def encode(self, text: str) -> list[int]:
        if SPACE in text:
            return self._joined(self._model.encode(text.split(SPACE)))
        return self._model.encode(text)

    def encode_batch(
        self, texts: Sequence[str], threads: int
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """All texts as they are stored, end to end, each as `bos` and its tokens; and how many each
        has with it `[texts]`. The kernel, where it serves, has no threads."""
        if self._unigram is not None and text_library() is not None:
            tokens, lengths = self._unigram.encode(texts)
            return tokens.astype(self.dtype), lengths
        found = list(self._encoded(texts, threads))
        tokens = np.concatenate([np.zeros(0, np.int32), *found])
        return tokens.astype(self.dtype), np.array([len(each) for each in found], np.int64)

    def _encoded(self, texts: Sequence[str], threads: int) -> Iterator[NDArray[np.int32]]:
        """Each text by SentencePiece itself."""
        parts = [text.split(SPACE) for text in texts]
        every = self._model.encode(list(chain(*parts)), num_threads=threads, out_type="numpy")
        encoded = iter(every)
        begin, space = (np.array(tokens, np.int32) for tokens in ([self.bos], self._space))
        for each in parts:
            first, *others = islice(encoded, len(each))
            between = chain(*((space, tokens) for tokens in others))
            yield np.concatenate([begin, first, *between])

    def _joined(self, parts: list[list[int]]) -> list[int]:
        """Tokens of the parts of a text, with the bytes of SentencePiece's space between them."""
        return list(chain(parts[0], *([*self._space, *part] for part in parts[1:])))

    def decode(self, tokens: Sequence[int]) -> str:
        return self._model.decode(list(tokens))

    def piece(self, token: int) -> str:
        """The text of a token, with ▁ for a space; of a byte or a control token its name."""
        return self._model.id_to_piece(token)

    def score(self, token: int) -> float:
        """The log-probability of a token in the unigram model."""
        return self._model.get_score(token)

    @cached_property
    def _proto(self) -> Any:
        from sentencepiece import sentencepiece_model_pb2

        library: Any = sentencepiece_model_pb2
        proto = library.ModelProto()
        proto.ParseFromString(self._model.serialized_model_proto())
        return proto

    def _fingerprint(self, vocabulary: str) -> str:
        """Of all that tokens follow from: the vocabulary alone where the rest is as
        `train_tokenizer` has it, since a .model's bytes may differ between runs that learn the
        same one; of another model also how it cuts text, and which pieces are of another kind."""
        pieces = self._proto.pieces
        others = [[i, p.type] for i, p in enumerate(pieces) if p.type != _kind(p.piece)]
        if self.is_unigram and not others:
            return vocabulary
        return digest([vocabulary, self._proto.trainer_spec.model_type, others])

    @property
    def is_unigram(self) -> bool:
        """Whether text is cut by the pieces' probabilities; else BPE."""
        return self._proto.trainer_spec.model_type == self._proto.trainer_spec.UNIGRAM

    @cached_property
    def _unigram(self) -> Unigram | None:
        """The model for the kernel; None where it does not cut text by such a model."""
        if not self.is_unigram:
            return None
        kinds = self._proto.SentencePiece
        pieces = [
            Piece(piece.piece, token, piece.score, piece.type == kinds.USER_DEFINED)
            for token, piece in enumerate(self._proto.pieces)
            if piece.type in (kinds.NORMAL, kinds.USER_DEFINED)
        ]
        if not can_encode(pieces):
            return None
        single_bytes = [self._model.piece_to_id(f"<0x{byte:02X}>") for byte in range(256)]
        return Unigram(pieces, single_bytes, unknown=self.unknown, begin=self.bos)

    @property
    def unsplit(self) -> list[str]:
        """Pieces that text is cut at first, such as a newline."""
        return [p.piece for p in self._proto.pieces if p.type == p.USER_DEFINED]

    def pieces(self) -> list[str]:
        """What each token stands for, a leading space as "▁"; control tokens and bytes as "<...>",
        and unknown text as an empty piece."""
        return [
            "" if self._model.is_unknown(token) else self.piece(token)
            for token in range(self.vocab_size)
        ]

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """Of stored tokens."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def _num_bytes(self, token: int) -> int:
        """UTF-8 bytes of text that a token stands for: bytes of a text are the sum over its
        tokens, wherever it is cut."""
        if self._model.is_byte(token):
            return 1
        if self._model.is_control(token) or self._model.is_unknown(token):
            return 0
        return len(self.piece(token).replace("▁", " ").encode())


def _kind(piece: str) -> int:
    """The kind of a piece of `train_tokenizer`, as SentencePiece numbers them."""
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3, "\n": 4}
    return 6 if _BYTE.fullmatch(piece) else kinds.get(piece, 1)


def train_tokenizer(folder: Path, sample: Iterable[str], vocab_size: int) -> None:
    """Write the tokenizer for a sample of text. Raises `UserError` where the sample cannot carry
    `vocab_size` pieces."""
    if vocab_size < _SMALLEST:
        raise UserError(
            f"model.vocab_size={vocab_size} is too small for bytes and letters; "
            f"set model.vocab_size={_SMALLEST * 2} or more"
        )
    trainer: Any = sentencepiece.SentencePieceTrainer
    try:
        trainer.train(
            # SentencePiece skips, without a word, a text that holds its sign for unknown pieces.
            sentence_iterator=(
                text.replace(_UNKNOWN, "\n").replace(SPACE, "\n") for text in sample
            ),
            model_prefix=str(folder / "tokenizer"),
            vocab_size=vocab_size,
            model_type="unigram",
            byte_fallback=True,
            num_threads=1,  # two threads learn another vocabulary
            # Text comes back exactly: nothing normalised, added or removed, newlines kept.
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            user_defined_symbols=["\n"],
            required_chars=SPACE,  # text without spaces is learnt from, and other text is encoded
            max_sentence_length=1 << 30,
            minloglevel=3,
        )
    except RuntimeError as error:
        raise _refusal(vocab_size, str(error)) from error


def _refusal(vocab_size: int, message: str) -> Exception:
    if largest := re.search(r"Vocabulary size too high.*<= (\d+)", message):
        return UserError(
            f"model.vocab_size={vocab_size} is more than this text can fill; "
            f"set model.vocab_size={largest[1]} or less, or give more text"
        )
    if smallest := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        return UserError(
            f"model.vocab_size={vocab_size} is less than the characters of this text need; "
            f"set model.vocab_size={smallest[1]} or more"
        )
    if "sentences_.empty()" in message:
        return UserError("data.corpus has no letter or digit to learn a vocabulary from")
    return RuntimeError(message)
