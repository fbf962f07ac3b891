"""Our SentencePiece tokenizer as the `tokenizer.json` of Hugging Face's `tokenizers`.

The same pieces, scores and fallback to bytes, so a text gets the same tokens but where two ways to
cut it have the same score: "....", of pieces ".." and "...", is such a tie. And "▁" (U+2581), by
which both write a space, is read as one there.
"""

from pathlib import Path
from typing import Any

from glam.data import Tokenizer
from glam.errors import UserError
from glam.files import to_json

WRITTEN = r"<(?=(0x[0-9A-F]{2}|unk|s|/s)>)"  # where text begins that looks like a piece of no text


def write_tokenizer(folder: Path, tokenizer: Tokenizer, sequence_length: int) -> None:
    """Write the files by which AutoTokenizer knows `tokenizer`, and its own two, by which a run
    takes it up again. A text begins with the token that begins every document."""
    tokenizer.copy_to(folder)
    fast_tokenizer(tokenizer).save(str(folder / "tokenizer.json"))
    bos, eos, unknown = (
        tokenizer.piece(token) for token in (tokenizer.bos, tokenizer.eos, tokenizer.unknown)
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "unk_token": unknown,
        "pad_token": eos,
        "model_max_length": sequence_length,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # "<s>" in a text is text
        "add_bos_token": True,
    }
    (folder / "tokenizer_config.json").write_text(to_json(config), encoding="utf-8")


def fast_tokenizer(tokenizer: Tokenizer) -> Any:
    """As an object of the package `tokenizers`, which has no types. Raises UserError for one that
    cuts text in another way."""
    if not tokenizer.is_unigram:
        raise UserError(
            "task=export writes unigram tokenizers, and that of this run is BPE; its "
            "tokenizer.model is a file of SentencePiece, which transformers converts"
        )
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    library: Any = tokenizers
    pieces = [(tokenizer.piece(n), tokenizer.score(n)) for n in range(tokenizer.vocab_size)]
    fast = library.Tokenizer(models.Unigram(pieces, tokenizer.unknown, byte_fallback=True))
    fast.normalizer = normalizers.Replace(" ", "▁")
    splits = [
        pre_tokenizers.Split(at, "isolated") for at in (*tokenizer.unsplit, library.Regex(WRITTEN))
    ]
    fast.pre_tokenizer = pre_tokenizers.Sequence(splits)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    fast.decoder = decoders.Sequence(steps)
    bos = tokenizer.piece(tokenizer.bos)
    fast.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.bos)]
    )
    return fast
