"""What preparing the text of a run takes: hours and disk, from the sizes of its files."""

from typing import Any

from glam.config import DataConfig, RunConfig
from glam.errors import UserError
from glam.log import log
from glam.machine.resources import num_cores
from glam.planning.preflight import free_disk

# [bytes] of text that a core prepares in a second, and what learning a vocabulary and a classifier
# takes however much text there is: measured on a loaded machine of two cores, on 53 to 783 MB,
# before text was prepared in shards. Of 162 MB in shards, side by side, a filter's scores took a
# fifteenth more.
UNFILTERED, FIXED_SECONDS = 7.1e6, 48.0
FILTERED = UNFILTERED * 15 / 16
ON_DISK = 1.5  # bytes that are written for each byte of text: shards and tokens


def preparation(config: RunConfig) -> dict[str, Any] | None:
    """Files, bytes and hours of what `task=prepare` will read; None for text that is in packages,
    which takes a minute, and for text that is not to be seen from here, which a line says."""
    data = config.data
    if data.corpus.name == "embedded":
        return None
    from glam.data.sources import checked_sources
    from glam.data.volume import volume

    try:
        found = volume(checked_sources(data))
    except (UserError, OSError) as error:
        log.warning(f"the preparation of the text is not planned: {error}")
        return None
    workers, speed = _workers(data), FILTERED if data.filter.name != "none" else UNFILTERED
    # What is fetched lies on the disk while it is read, or stays there.
    keeps = getattr(data.corpus, "keep_downloads", False)
    downloads = found.fetched if keeps else min(found.fetched, workers * found.largest)
    disk, free = round(ON_DISK * found.text) + downloads, free_disk(config.cache_path)
    return {
        "files": found.files,
        "stored_bytes": found.stored,
        "fetched_bytes": found.fetched,
        "text_bytes": found.text,
        "disk_bytes": disk,
        "free_bytes": free,
        "fits": disk <= free,
        "workers": workers,
        "hours": (FIXED_SECONDS + found.text / speed / workers) / 3600,
        "source": f"{speed / 1e6:.1f} MB/s a core, as measured on a shared machine of two cores, "
        f"without the time to fetch",
    }


def _workers(data: DataConfig) -> int:
    if data.executor == "slurm":
        return data.slurm.workers
    return data.workers or num_cores()  # Ray's cluster is asked for nothing yet
