"""Text to batches: sources, quality filter, tokenizer, mixture, packing (paper section 3).

prepared = prepare(config.data, config.model.vocab_size, config.cache_path)
batch = TrainStream(prepared, sequence_length=128, batch_size=8, seed=0).batch(0)
"""

from glam.data.held_out import HeldOutBatch, held_out, held_out_bytes
from glam.data.prepare import cached_texts, check_cache, prepare
from glam.data.prepared import Component, PreparedData
from glam.data.sources import EMBEDDED
from glam.data.stream import Batch, TrainStream
from glam.data.texts import Texts
from glam.data.tokenizer import Tokenizer

__all__ = [
    "EMBEDDED",
    "Batch",
    "Component",
    "HeldOutBatch",
    "PreparedData",
    "Texts",
    "Tokenizer",
    "TrainStream",
    "cached_texts",
    "check_cache",
    "held_out",
    "held_out_bytes",
    "prepare",
]
