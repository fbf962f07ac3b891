"""Data sets of a hub (Hugging Face, or a mirror of it)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast, get_args, get_type_hints

from glam.config._checks import not_in_identity, positive, within
from glam.config.corpora.base import (
    COMPONENTS,
    CORPORA,
    MAX_BAD_SHARE,
    ROLES,
    CorpusConfig,
    Role,
)
from glam.errors import UserError, nearest, one_of
from glam.files import check_type

_REPO = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """An item of `data.corpus.datasets`: a data set, or a part of one, and what it is used for."""

    repo: str  # owner/name
    configuration: str | None = None  # of the data set; None: its default
    split: str = "train"  # of the configuration
    files: str | None = None  # a glob inside the repository, instead of configuration and split
    revision: str | None = None  # branch, tag or commit; None: the main branch when first listed
    text_field: str = "text"  # the column that holds the text; a.b: field b inside column a
    domain_field: str | None = None  # the column that names each document's domain
    score_field: str | None = None  # the column with a published quality score
    component: str = "webpages"  # of the paper's mixture
    # pool (filtered), curated (teaches the filter), unfiltered (neither) or held_out
    role: Role = "pool"
    name: str | None = None  # of the domain; None: that of the repository
    limit_gb: float | None = None  # [GB] of files at most, as they are stored; at least one file
    limit_files: int | None = None  # files at most
    license: str | None = None  # of the text; None: what the data set's card says

    @property
    def domain_name(self) -> str:
        return self.name or self.repo.rpartition("/")[2]


def hub_datasets(items: Sequence[Any]) -> list[HubDataset]:
    """The items of `data.corpus.datasets`, checked. Raises UserError for what is refused."""
    chosen = [_dataset(item, f"data.corpus.datasets[{i}]") for i, item in enumerate(items)]
    names = [dataset.domain_name for dataset in chosen]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"data.corpus.datasets: {names.count(name)} of them are called {name!r}; give each "
                f"a name of its own: {{repo: …, name: {name}-2}}"
            )
    return chosen


def _dataset(item: Any, place: str) -> HubDataset:
    types = get_type_hints(HubDataset)
    if isinstance(item, str):
        item = {"repo": item}
    if not isinstance(item, dict):
        raise UserError(f"{place}={item!r} must be keys and values, as {{repo: owner/name}}")
    item = cast(dict[str, Any], item)
    for key in item:
        if key not in types:
            raise UserError(f"{place}: there is no key {key!r}; {nearest(str(key), types)}")
    if "role" in item:
        one_of(f"{place}.role", str(item["role"]), ROLES)
    values = {key: _typed(value, types[key], f"{place}.{key}") for key, value in item.items()}
    if not _REPO.fullmatch(values.get("repo") or ""):
        raise UserError(
            f"{place}.repo={values.get('repo')} names no data set; give owner/name, as "
            f"{{repo: wikimedia/wikipedia}}"
        )
    dataset = HubDataset(**values)
    one_of(f"{place}.component", dataset.component, COMPONENTS)
    positive(f"{place}.", dataset, "limit_gb", "limit_files")
    if dataset.files is not None and dataset.configuration is not None:
        raise UserError(
            f"{place}: files and configuration both choose files of {dataset.repo}; leave one out"
        )
    return dataset


def _typed(value: Any, kind: Any, key: str) -> Any:
    if str in get_args(kind) and type(value) in (int, float):
        value = str(value)  # a configuration may be called 2023
    try:
        check_type(value, kind)
    except ValueError as error:
        raise UserError(f"{key}={value!r}: {error}") from None
    return value


@CORPORA.register
@dataclass(kw_only=True)
class HubCorpusConfig(CorpusConfig):
    """Data sets of the Hugging Face hub, or of a mirror that `HF_ENDPOINT` names. Read by
    `glam.data.hub`."""

    name: str = "hub"
    # what to read: [owner/name, {repo: owner/name, configuration: …, split: train, text_field: …,
    # component: webpages, role: pool}, …]; docs/hub.md has every key
    datasets: list[Any] = field(default_factory=lambda: [])
    # names of those data sets to read; null: all
    only: list[str] | None = None
    # [GB] of each data set at most, as its files are stored; null: what its own limit_gb says
    limit_gb: float | None = None
    # [share] of records that may be bad before a data set is refused
    max_bad_share: float = not_in_identity(MAX_BAD_SHARE)
    # [hours] that nothing may arrive from the hub before it is given up
    retry_hours: float = not_in_identity(12.0)
    # [seconds] before the hub is asked again for the first time; each wait doubles, to a minute
    retry_seconds: float = not_in_identity(1.0)
    # [seconds] of silence after which a request is given up and made again
    timeout_seconds: float = not_in_identity(30.0)
    # keep the files after they are read; otherwise the disk holds those being read alone
    keep_downloads: bool = not_in_identity(False)
    # where listings and downloads lie; null: in the hub's own cache (HF_HOME)
    folder: str | None = not_in_identity(None)

    def __post_init__(self) -> None:
        within("data.corpus.", self, 0, 1, "max_bad_share")
        positive("data.corpus.", self, "limit_gb")
        within("data.corpus.", self, 0, 24 * 365, "retry_hours")
        positive("data.corpus.", self, "retry_seconds", "timeout_seconds")
        hub_datasets(self.datasets)
        if self.folder is not None and not self.folder.strip():
            raise UserError("data.corpus.folder is empty; name a folder, or leave it out")

    def chosen(self) -> list[HubDataset]:
        """The data sets to read, in the order of their names. Raises UserError for a name in
        `only` that none of them has."""
        datasets = [self._limited(one) for one in hub_datasets(self.datasets)]
        datasets.sort(key=lambda one: one.domain_name)
        if self.only is None:
            return datasets
        names = [one.domain_name for one in datasets]
        for name in self.only:
            if name not in names:
                raise UserError(f"data.corpus.only: {name!r} is not listed; {nearest(name, names)}")
        return [one for one in datasets if one.domain_name in self.only]

    @property
    def has_scores(self) -> bool:
        pool = [one for one in hub_datasets(self.datasets) if one.role == "pool"]
        return any(one.score_field is not None for one in pool)

    def _limited(self, dataset: HubDataset) -> HubDataset:
        limits = [limit for limit in (dataset.limit_gb, self.limit_gb) if limit is not None]
        return replace(dataset, limit_gb=min(limits, default=None))
