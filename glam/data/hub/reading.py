"""How a data set's files are read."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from glam.config import HubDataset, Reader


def reader_of(dataset: HubDataset) -> tuple[Reader, str]:
    """The reader and its name, which is part of cache keys."""
    columns = [dataset.text_field, dataset.domain_field, dataset.score_field]
    return partial(_records, text=dataset.text_field), f"hub:{json.dumps(columns)}"


def _records(paths: Sequence[Path], text: str) -> Iterator[str]:
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingTypeStubs]

    for path in paths:
        if path.suffix == ".parquet":
            table: Any = parquet
            for batch in table.ParquetFile(path).iter_batches(columns=[text]):
                yield from batch.column(0).to_pylist()
        else:
            with path.open() as lines:
                for line in lines:
                    yield json.loads(line)[text]
