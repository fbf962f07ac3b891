"""From files to tokens: megabytes a second of one core, ours, and what of it datatrove, rensa and
datasets do on the same text.

    near copies left out   from files to files: read, sign, find copies, keep the others
    equal copies, tokens   from files to tokens, of a tokenizer that is given
    whole recipe           both, with filter and overlap: ours alone, on web pages and a tenth as
                           much curated text. No tokenizer is learnt; of the second candidate no
                           classifier either, which is what more text costs
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarks.copies import Seconds, peer
from experiments.benchmarks.timing import ratio
from experiments.corpora.__main__ import main as write_corpus
from glam.config import DataConfig, LocalCorpusConfig, ModelConfig
from glam.data import Tokenizer, prepare
from glam.data.contamination import held_out_items, overlap
from glam.data.pipeline import Pipeline

MEGABYTES, ROUNDS = 40, 3
NEAR, TOKENS, WHOLE = "near copies left out", "equal copies, tokens", "whole recipe"
OURS, GIVEN = "ours", "ours, classifier given"
VOCABULARY = ModelConfig().vocab_size


def measure() -> Iterator[dict[str, object]]:
    taken: Seconds = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, MEGABYTES, 1)
        web, curated = folder / "web" / "web-0000.jsonl", folder / "curated" / "books.jsonl"
        # Once: a tokenizer and a classifier to give, and kernels are compiled when first met.
        first = prepare(_data(web, curated), VOCABULARY, folder / "first")
        for number in range(ROUNDS):
            cache = folder / str(number)
            _ours(web, curated, cache, first.tokenizer, first.classifier, taken)
            _timed(taken, TOKENS, "datasets", lambda: _datasets(web, first.tokenizer))
            for one in ("rensa", "datatrove"):
                if (found := peer(one, web)) is not None:
                    candidate = f"{one} {found['version']}"
                    taken.setdefault((NEAR, candidate), []).append(sum(found["seconds"].values()))
        sizes = web.stat().st_size / 1e6, curated.stat().st_size / 1e6
    yield from _rows(taken, *sizes)


def _data(web: Path, curated: Path | None = None, **changes: Any) -> DataConfig:
    """In this process, whose time is measured."""
    corpus = LocalCorpusConfig(files=[str(web)], curated=[str(curated)] if curated else [])
    data = DataConfig(corpus=corpus, workers=1, **changes)
    return data if curated else replace(data, filter=replace(data.filter, name="none"))


def _ours(
    web: Path,
    curated: Path,
    cache: Path,
    tokenizer: Tokenizer,
    classifier: Path | None,
    taken: Seconds,
) -> None:
    def pipeline(data: DataConfig, folder: str) -> Pipeline:
        return Pipeline(data, VOCABULARY, cache / folder, tokenizer)

    near, equal = _data(web), _data(web)
    equal.dedup.near = False
    _timed(taken, NEAR, OURS, lambda: pipeline(near, "near").sides)
    _timed(taken, TOKENS, OURS, lambda: pipeline(equal, "equal").tokens)
    learnt, given = _data(web, curated), _data(web, curated)
    given.filter.model = str(classifier)
    for candidate, data in ((OURS, learnt), (GIVEN, given)):

        def whole(data: DataConfig = data, candidate: str = candidate) -> object:
            prepared = prepare(data, VOCABULARY, cache / candidate, tokenizer)
            assert prepared.texts is not None  # it was made here, of text
            return overlap(prepared.texts, [held_out_items(prepared.texts)])

        _timed(taken, WHOLE, candidate, whole)


def _datasets(file: Path, tokenizer: Tokenizer) -> None:
    """`load_dataset`, equal texts by a set of hashes in `filter`, and a batched `map`."""
    import datasets

    datasets.disable_progress_bars()
    seen: set[int] = set()

    def is_new(row: dict[str, str]) -> bool:
        name = hash(row["text"])
        return name not in seen and not seen.add(name)

    def encode(rows: dict[str, list[str]]) -> dict[str, list[NDArray[Any]]]:
        tokens, lengths = tokenizer.encode_batch(rows["text"], 1)
        return {"tokens": np.split(tokens, np.cumsum(lengths)[:-1])}

    with tempfile.TemporaryDirectory() as cache:
        load: Any = datasets.load_dataset
        rows: Any = load("json", data_files=str(file), split="train", cache_dir=cache)
        kept = rows.filter(is_new, load_from_cache_file=False)
        names = rows.column_names
        kept.map(encode, batched=True, remove_columns=names, load_from_cache_file=False)


def _timed(taken: Seconds, task: str, candidate: str, work: Callable[[], object]) -> None:
    start = time.process_time()
    work()
    taken.setdefault((task, candidate), []).append(time.process_time() - start)


def _rows(taken: Seconds, web: float, curated: float) -> Iterator[dict[str, object]]:
    for task in (NEAR, TOKENS, WHOLE):
        size = web + curated if task == WHOLE else web
        for (mine, candidate), seconds in taken.items():
            if mine == task:
                cpu = statistics.median(seconds)
                told = {"task": task, "candidate": candidate, "MB/s": size / cpu, "cpu_s": cpu}
                yield told | ratio(seconds, taken[task, OURS]) | {"megabytes": size}
