"""What the hub refuses, a network that is not there and a folder that cannot be written, each as
one line with the way out."""

import errno
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from glam.errors import NO_SPACE, UserError, first_line, nearest
from glam.units import byte_size

_CLOSED = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)


@contextmanager
def told(repo: str, revision: str | None = None) -> Generator[None]:
    """Raises UserError for whatever of the hub's errors asking again does not mend."""
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError:
        raise UserError(
            f"data.corpus.datasets: {repo} names no data set; give owner/name, as "
            f"wikimedia/wikipedia"
        ) from None
    except OfflineModeIsEnabled:
        raise UserError(
            f"{repo}: HF_HUB_OFFLINE is set, and this is not in the cache; unset it once to "
            f"fetch the text, or choose data that is prepared already"
        ) from None
    except GatedRepoError:
        raise UserError(
            f"{repo} is gated; accept its terms at {_page(repo)}, then: hf auth login (or set "
            f"HF_TOKEN)"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{repo}: there is no such data set on {_endpoint()}, or it is private; look at its "
            f"name, or log in: hf auth login (or set HF_TOKEN)"
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"{repo}: there is no revision {revision!r}; {nearest(str(revision), _revisions(repo))}"
        ) from None
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL):
        raise UserError(
            f"HF_ENDPOINT={_endpoint()} is no address of a hub; give one as https://huggingface.co"
        ) from None
    except HfHubHTTPError as error:
        raise UserError(_of_status(repo, error)) from None


@contextmanager
def writing(folder: Path, needs: int = 0) -> Generator[None]:
    """Raises UserError for a folder that cannot be written, or a disk without room for `needs`
    bytes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < needs:
            raise OSError(errno.ENOSPC, "no space left")
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise UserError(
                f"data.corpus.folder={folder} has {byte_size(_free(folder))} free"
                + (f" and a file of the hub needs {byte_size(needs)}" if needs > 0 else "")
                + "; free some space or set data.corpus.folder=<another disk>"
            ) from None
        if error.errno in _CLOSED:
            raise UserError(
                f"data.corpus.folder={folder} cannot be written ({error.strerror}); set another"
            ) from None
        raise


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def no_network(repo: str, error: Exception) -> UserError:
    return UserError(
        f"{repo}: {_endpoint()} cannot be reached ({first_line(error)}) and this data set is not "
        f"listed yet; connect once to fetch its text (or set HF_ENDPOINT to a mirror); text that "
        f"is prepared needs no network"
    )


def _of_status(repo: str, error: Exception) -> str:
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else None
    if status in (401, 403):
        return (
            f"{repo}: the hub answers {status}; log in: hf auth login (or set HF_TOKEN), and "
            f"accept the terms at {_page(repo)} where it is gated"
        )
    return f"{repo}: the hub answers {status or first_line(error)}; see {_page(repo)}"


def _revisions(repo: str) -> list[str]:
    """Branches and tags; none where they cannot be asked for."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(repo, repo_type="dataset")
    except Exception:  # an answer is better than its details
        return []
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def _page(repo: str) -> str:
    return f"{_endpoint()}/datasets/{repo}"


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
