"""How much text a file holds, before it is read."""

from pathlib import Path
from typing import Any

from glam.data.formats.unpack import expansion

# Times as large as they are stored: compressed English in JSON lines, and the columns of a parquet.
_USUAL = {".gz": 2.5, ".zst": 2.6, ".bz2": 4.0, ".parquet": 3.0}


def usual_expansion(name: str) -> float:
    """How many bytes come out of one of a file, by its name: for what has to be the same on every
    start, or where the file is not here. `unpacked_bytes` looks into it."""
    return _USUAL.get(Path(name).suffix, 1.0)


def unpacked_bytes(path: Path) -> int:
    """Bytes of a file's text: estimated from the beginning of a compressed one, and from the table
    of contents of a `.parquet`. Raises OSError where it cannot be read."""
    size = path.stat().st_size
    if path.suffix == ".parquet":
        return _of_parquet(path) or size
    return int(size * expansion(path))


def _of_parquet(path: Path) -> int:
    """Bytes of all its strings; 0 where it is no parquet."""
    import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

    library: Any = pyarrow.parquet
    try:
        found = library.read_metadata(path)
    except (OSError, ValueError):  # which reading tells better
        return 0
    groups = [found.row_group(index) for index in range(found.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    return sum(
        each.total_uncompressed_size for each in columns if each.physical_type == "BYTE_ARRAY"
    )
