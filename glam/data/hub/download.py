"""Fetching one file of a hub: waited for, resumed after a cut, and compared with its hash.

The hub's client (`huggingface_hub`) makes the requests: its endpoint, token, proxies and offline
switch are obeyed. What it does not do is to resume a file in another process, or to wait longer
than half a minute for a hub that refuses.
"""

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from glam.data.hub.listing import HubFile, Listing, read_listing
from glam.data.hub.patience import Patience, patiently
from glam.data.hub.refusals import told, writing
from glam.errors import UserError

_BLOCK = 1 << 20  # bytes
_DAMAGED = 2  # a file that arrives other than listed so often is refused


@dataclass(frozen=True, kw_only=True)
class HubFetch:
    """The `fetch` of a hub's source: file `i` of those that are `chosen` from a listing."""

    listing: Path
    chosen: tuple[int, ...] | None  # indices into the listing; None: all of it
    folder: Path  # of downloads
    keep: bool  # the files after they are read
    patience: Patience

    @contextmanager
    def __call__(self, index: int) -> Generator[Path]:
        """The file, fetched unless it is here. Raises UserError where it cannot be had."""
        listing = _listing(self.listing)
        file = listing.files[index if self.chosen is None else self.chosen[index]]
        name = f"{file.sha[:16]}-{Path(file.path).name}"
        place = self.folder / listing.repo.replace("/", "--") / name
        with writing(place.parent):
            pass
        with FileLock(place.with_name(f".{place.name}.lock")):  # two that read the same file
            if not _is_whole(place, file):
                fetch(listing, file, place, self.patience)
            yield place
            if not self.keep:
                place.unlink(missing_ok=True)


@lru_cache(maxsize=4)
def _listing(path: Path) -> Listing:
    try:
        return read_listing(path)
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is gone or damaged; start the same line again") from None


def fetch(listing: Listing, file: HubFile, place: Path, patience: Patience) -> None:
    """Puts a file at `place`, whole or not at all; what has come of it before is gone on with."""
    what = f"{listing.repo}/{file.path}"
    part = place.with_name(f"{place.name}.part")
    for _ in range(_DAMAGED):
        with writing(place.parent, file.size - _size(part)), told(listing.repo, listing.commit):
            patiently(
                what,
                patience,
                lambda: _go_on(listing, file, part, patience),
                progress=lambda: _size(part),
            )
            if _sha(part, file.sha) == file.sha:
                part.replace(place)
                return
            part.unlink()
    raise UserError(
        f"{what} arrives other than it is listed (another hash); the hub, or what lies between, "
        f"is at fault: try again later, or another HF_ENDPOINT"
    )


def _go_on(listing: Listing, file: HubFile, part: Path, patience: Patience) -> None:
    """Asks for what is missing of a file and appends it."""
    from huggingface_hub import hf_hub_url, utils

    if (start := _size(part)) > file.size:
        part.unlink()
        start = 0
    if start == file.size:
        part.touch()  # a file without content
        return
    url = hf_hub_url(listing.repo, file.path, repo_type="dataset", revision=listing.commit)
    # Compressed on the way, a part could not be gone on with.
    client: Any = utils
    headers = {**client.build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with client.get_session().stream(
        "GET", url, headers=headers, timeout=patience.timeout
    ) as response:
        if response.status_code >= 400:
            response.read()
        client.hf_raise_for_status(response)
        goes_on = start and response.status_code == 206
        with part.open("ab" if goes_on else "wb") as out:
            for block in response.iter_raw():  # as it comes: of a cut nothing is lost
                out.write(block)
                out.flush()


def _is_whole(place: Path, file: HubFile) -> bool:
    return _size(place) == file.size and place.exists() and _sha(place, file.sha) == file.sha


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha(path: Path, like: str) -> str:
    """Of the bytes: SHA-256, or as git names a small file where `like` is as short as that."""
    with path.open("rb") as file:
        if len(like) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        state = hashlib.sha1(f"blob {os.fstat(file.fileno()).st_size}\0".encode())
        while block := file.read(_BLOCK):
            state.update(block)
        return state.hexdigest()
