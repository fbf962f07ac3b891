"""The documents of a data set: from a folder, or from the Hugging Face hub."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast, overload

from glam.errors import first_line
from glam.evaluation.harness import MissingDataError, load_data
from glam.evaluation.suites.glam29.benchmark import Data, Document, Expand

# Folders for a data set of one configuration: ours, and those of the hub.
UNNAMED = ("default", "data", "plain_text", ".")


class Documents(Sequence[Document]):
    """Rows, or items made of them, as lm-eval reads a split."""

    def __init__(self, rows: Any, expand: Expand | None = None) -> None:
        self._rows = rows if expand is None else list(expand(rows))

    @property
    def features(self) -> dict[str, None]:
        """The names of the fields, which is all that lm-eval asks for."""
        return dict.fromkeys(self[0])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | Sequence[Document]:
        if isinstance(index, slice):
            return [self._rows[n] for n in range(*index.indices(len(self)))]
        return self._rows[index]

    def __iter__(self) -> Iterator[Document]:
        return iter(self._rows)


def read(data: Data, folder: Path | None) -> tuple[Any, Any]:
    """The rows that are judged, and those that demonstrations are drawn from: those of the hub
    where there is no folder. Raises MissingDataError, one clause."""
    judged = _rows(data, data.split, folder)
    if data.demonstrations == data.split:
        return judged, judged
    return judged, _rows(data, data.demonstrations, folder)


def _rows(data: Data, split: str, folder: Path | None) -> Any:
    rows = _of_hub(data, split) if folder is None else _of_folder(data, split, folder)
    if not len(rows):
        raise MissingDataError(f"its split {split} is empty")
    return rows


def _of_folder(data: Data, split: str, folder: Path) -> Any:
    """Of `<folder>/<data set>/<configuration>/<split>.jsonl`, or .parquet, or its parts as the hub
    names them."""
    home = folder / data.dataset
    places = [home / data.config] if data.config else [home / name for name in UNNAMED]
    for place in places:
        files = [place / f"{split}.jsonl", place / f"{split}.parquet"]
        found = [file for file in files if file.is_file()][:1]
        found = found or sorted(place.glob(f"{split}-*-of-*.parquet"))
        if found:
            return _read(found)
    raise MissingDataError(f"neither {places[0] / split}.jsonl nor {split}.parquet is there")


def _read(files: Sequence[Path]) -> Any:
    file = files[0]
    try:
        return _json_lines(file) if file.suffix == ".jsonl" else _parquet(files)
    except (OSError, ValueError) as error:
        raise MissingDataError(f"{file} cannot be read ({first_line(error)})") from None


def _json_lines(file: Path) -> list[Document]:
    rows: list[Document] = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no mapping")
            rows.append(cast(Document, row))
    return rows


def _parquet(files: Sequence[Path]) -> Any:
    import datasets  # pyright: ignore[reportMissingTypeStubs]
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]
    import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

    tables = [pyarrow.parquet.read_table(file) for file in files]  # pyright: ignore
    return datasets.Dataset(pyarrow.concat_tables(tables))  # pyright: ignore


def _of_hub(data: Data, split: str) -> Any:
    return load_data(data.dataset, data.config, None, split=split, revision=data.revision)
