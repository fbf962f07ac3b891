"""What preparing the text of a run takes: hours and disk, from the sizes of its files."""

from typing import Any, NamedTuple

from glam.config import DataConfig, RunConfig
from glam.errors import UserError
from glam.log import log
from glam.machine.resources import num_cores
from glam.planning.preflight import free_disk


class Speed(NamedTuple):
    """What the recipe takes of CPU seconds: `fixed_s` for a vocabulary and a classifier, however
    much text there is, and one for each `bytes_per_s` of it."""

    bytes_per_s: float
    fixed_s: float


# Measured by experiments/preparation on a loaded machine of two cores; a test compares them with
# its rows.
FILTERED, UNFILTERED = Speed(11.7e6, 86.0), Speed(11.2e6, 53.0)


def preparation(config: RunConfig) -> dict[str, Any] | None:
    """Files, bytes and hours of what `task=prepare` will read; None for text that is in packages,
    which takes a minute, and for text that is not to be seen from here, which a line says."""
    data = config.data
    if data.corpus.name == "embedded":
        return None
    from glam.data.sources import checked_sources
    from glam.data.volume import ON_DISK, volume

    try:
        found = volume(checked_sources(data))
    except (UserError, OSError) as error:
        log.warning(f"the preparation of the text is not planned: {error}")
        return None
    workers, speed = _workers(data), FILTERED if data.filter.name != "none" else UNFILTERED
    seconds = speed.fixed_s + found.text / speed.bytes_per_s / workers
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
        "hours": seconds / 3600,
        "source": f"{speed.bytes_per_s / 1e6:.1f} MB/s a core, as measured on a shared machine of "
        f"two cores (experiments/preparation), without the time to fetch",
    }


def _workers(data: DataConfig) -> int:
    if data.executor == "slurm":
        return data.slurm.workers
    return data.workers or num_cores()  # Ray's cluster is asked for nothing yet
