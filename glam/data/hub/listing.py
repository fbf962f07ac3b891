"""What files a part of a data set has, at which commit: asked of the hub once, then kept.

The hub's own libraries say which files a configuration and a split are (`datasets`, from the data
set's card) and what each file is (its size and its hash, which name its content). Nothing of the
text is fetched for it.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

from glam.config import HubCorpusConfig, HubDataset, typed_path
from glam.data.formats import SUFFIXES, format_of
from glam.data.hashing import digest
from glam.data.hub.patience import Patience, patiently
from glam.data.hub.refusals import no_network, told, writing
from glam.errors import UserError, nearest
from glam.log import log
from glam.progress import stage

_VERSION = 1  # of the file
_NAMES = 12  # shown in a message
_FOOTER = 1 << 16  # bytes that are asked for at once


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a data set. `sha` is of its bytes: SHA-256, or git's SHA-1 of small files."""

    path: str  # inside the repository
    size: int  # [bytes]
    sha: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of one part of a data set."""

    repo: str
    commit: str
    license: str  # as the data set's card names it; empty where it does not
    # of the first file where that is parquet: stored and unpacked bytes, a.b for b inside a
    columns: dict[str, tuple[int, int]]
    files: tuple[HubFile, ...]


def listed(dataset: HubDataset, corpus: HubCorpusConfig) -> tuple[Path, Listing]:
    """The listing of `dataset` and the file that holds it. The hub is asked where none is kept, by
    one process: those that start together wait for it. Raises UserError for what is not there, or
    may not be read."""
    path = _place(dataset, folder(corpus))
    if found := _kept(path):
        return path, found
    with writing(path.parent), FileLock(path.with_suffix(".lock")):
        if found := _kept(path):
            return path, found
        with stage(f"listing {dataset.repo}"):
            found = _ask(dataset, Patience.of(corpus))
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"version": _VERSION, **asdict(found)}))
        part.replace(path)
    size = sum(file.size for file in found.files)
    log.info(
        f"{dataset.repo}: {len(found.files):,} files, {size / 1e9:,.2f} GB, at commit "
        f"{found.commit[:12]}"
    )
    return path, found


def folder(corpus: HubCorpusConfig) -> Path:
    """Where listings and downloads lie."""
    if corpus.folder is not None:
        return typed_path("data.corpus.folder", corpus.folder).absolute()
    from huggingface_hub import cached_assets_path

    return cached_assets_path("glam", namespace="datasets", subfolder="hub")


def read_listing(path: Path) -> Listing:
    """Raises ValueError, KeyError or TypeError for a file that is no listing."""
    content = json.loads(path.read_text())
    if content.pop("version") != _VERSION:
        raise ValueError(f"{path} is of another version")
    content["columns"] = {name: tuple(sizes) for name, sizes in content["columns"].items()}
    content["files"] = tuple(HubFile(**file) for file in content["files"])
    return Listing(**content)


def _kept(path: Path) -> Listing | None:
    try:
        return read_listing(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(
            f"data.corpus.folder: {path} cannot be read ({error.strerror}); make it readable, or "
            f"set another"
        ) from None
    except (ValueError, KeyError, TypeError):
        log.warning(f"{path} cannot be read as a listing; the hub is asked again")
        return None


def _place(dataset: HubDataset, root: Path) -> Path:
    asked = [dataset.repo, dataset.configuration, dataset.split, dataset.files, dataset.revision]
    name = dataset.repo.replace("/", "--")
    return root / "listings" / f"{name}-{digest(asked)}.json"


def _ask(dataset: HubDataset, patience: Patience) -> Listing:
    """Asks the hub, again where that may help. Raises UserError where it does not."""
    import httpx2
    from huggingface_hub.utils import get_session

    reached = False

    def attempt() -> Listing:
        nonlocal reached
        get_session().timeout = patience.timeout  # the hub's client has none of its own
        try:
            info = _info(dataset, patience)
        except httpx2.ConnectError as error:
            if reached:
                raise
            raise no_network(dataset.repo, error) from None
        reached = True
        return _listing(dataset, info)

    with told(dataset.repo, dataset.revision):
        return patiently(f"listing {dataset.repo}", patience, attempt)


def _info(dataset: HubDataset, patience: Patience) -> Any:
    from huggingface_hub import HfApi

    api = HfApi()
    info = api.dataset_info(dataset.repo, revision=dataset.revision, timeout=patience.timeout)
    if info.gated:  # which the files are, not their list
        api.auth_check(dataset.repo, repo_type="dataset")
    return info


def _listing(dataset: HubDataset, info: Any) -> Listing:
    root = f"datasets/{dataset.repo}@{info.sha}"
    system = _file_system()
    paths = _paths(dataset, info, f"hf://{root}")
    entries: dict[str, Any] = {}
    for parent in sorted({path.rpartition("/")[0] for path in paths}):
        entries |= {entry["name"]: entry for entry in system.ls(parent, detail=True)}
    files = [_file(entries[path], root) for path in paths]
    return Listing(
        repo=dataset.repo,
        commit=info.sha,
        license=_license(info.card_data),
        columns=_columns(system, paths[0]),
        files=tuple(sorted(files, key=lambda file: file.path)),
    )


def _file_system() -> Any:
    """The very one that `datasets` uses, which keeps what it has listed."""
    from datasets import config  # pyright: ignore[reportMissingTypeStubs]
    from huggingface_hub import HfFileSystem

    return HfFileSystem(endpoint=config.HF_ENDPOINT, token=None)


def _file(entry: Any, root: str) -> HubFile:
    return HubFile(
        path=entry["name"].removeprefix(f"{root}/"),
        size=entry["size"],
        sha=entry["lfs"].sha256 if entry["lfs"] else entry["blob_id"],
    )


def _columns(system: Any, path: str) -> dict[str, tuple[int, int]]:
    """Of a parquet, whose table of contents is asked for alone: a few kilobytes."""
    import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

    if not path.endswith(".parquet"):
        return {}
    library: Any = pyarrow.parquet
    with system.open(path, "rb", block_size=_FOOTER) as file:
        try:
            found = library.ParquetFile(file).metadata
        except ValueError:  # none, or a damaged one: whoever reads it says so
            return {}
    sizes: dict[str, tuple[int, int]] = {}
    for group in map(found.row_group, range(found.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            stored, unpacked = sizes.get(column.path_in_schema, (0, 0))
            stored += column.total_compressed_size
            unpacked += column.total_uncompressed_size
            sizes[column.path_in_schema] = stored, unpacked
    return sizes


def _license(card: Any) -> str:
    """What the card names, in one line: it may be several, or `other` with a name of its own."""
    found: Any = (card.get("license_name") or card.get("license") or "") if card else ""
    return found if isinstance(found, str) else ", ".join(map(str, found))


def _paths(dataset: HubDataset, info: Any, base: str) -> list[str]:
    """The files of a configuration's split, as `datasets` finds them."""
    from datasets import data_files  # pyright: ignore[reportMissingTypeStubs]

    library: Any = data_files
    base, given = _configuration(dataset, info, base)
    try:
        patterns: dict[str, Any] = (
            library.sanitize_patterns(given) if given else library.get_data_patterns(base)
        )
    except data_files.EmptyDatasetError:
        raise UserError(f"{dataset.repo} has no files; choose another data set") from None
    if dataset.split not in map(str, patterns):
        names = map(str, patterns)
        raise UserError(
            f"{dataset.repo}: there is no split {dataset.split!r}; {nearest(dataset.split, names)}"
        )
    try:
        found: list[str] = library.DataFilesList.from_patterns(
            patterns[dataset.split], base_path=base, allowed_extensions=list(SUFFIXES)
        )
    except FileNotFoundError:
        found = []
    paths = [path.removeprefix("hf://") for path in dict.fromkeys(found) if _kind(path)]
    if not paths:
        asked = dataset.files or f"split {dataset.split!r}"
        raise UserError(
            f"{dataset.repo}: {asked} has no files of text at commit {info.sha[:12]}; choose "
            f"another split, or give files=<glob inside the repository>"
        )
    return paths if given else _of_one_kind(paths)


def _of_one_kind(paths: list[str]) -> list[str]:
    """Those of the most common format: beside parquet, a .json tells of it and is no text."""
    kinds = [_kind(path) for path in paths]
    [(common, _)] = Counter(kinds).most_common(1)
    return [path for path, kind in zip(paths, kinds, strict=True) if kind == common]


def _kind(path: str) -> str:
    kind = format_of(path.rpartition("/")[2])
    return ".json" if kind == ".jsonl" else kind  # which are one to `datasets`


def _configuration(dataset: HubDataset, info: Any, base: str) -> tuple[str, Any]:
    """The folder in which a configuration's files are looked for, and their patterns as the card
    has them: None where it names none."""
    from datasets.utils import metadata  # pyright: ignore[reportMissingTypeStubs]

    library: Any = metadata
    if dataset.files is not None:
        return base, {dataset.split: [dataset.files]}
    known = library.MetadataConfigs.from_dataset_card_data(info.card_data or {})
    name = dataset.configuration or known.get_default_config_name()
    if name is None and not known:
        return base, None
    found = known.get(cast(str, name))
    if found is None:
        raise UserError(f"{dataset.repo}: {_which(name, [str(each) for each in known])}")
    inside = found.get("data_dir")
    return (f"{base}/{inside.strip('/')}" if inside else base), found.get("data_files")


def _which(name: str | None, names: list[str]) -> str:
    """One clause that asks for one of the configurations, which `name` is not."""
    if not names:
        return (
            f"there are no configurations; leave configuration={name} out, or give files=<glob "
            f"inside the repository>"
        )
    if name is None:
        return f"there are several configurations; choose one with configuration=: {_some(names)}"
    return f"there is no configuration {name!r}; {nearest(name, names)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
