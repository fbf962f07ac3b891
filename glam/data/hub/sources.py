"""The sources of `data/corpus=hub`: a data set each."""

from glam.config import HubCorpusConfig, HubDataset, Source
from glam.data.formats import usual_expansion
from glam.data.hashing import text_hash
from glam.data.hub.download import HubFetch
from glam.data.hub.listing import HubFile, Listing, folder, listed
from glam.data.hub.patience import Patience
from glam.data.hub.reading import reader_of
from glam.errors import UserError, nearest


def hub_sources(corpus: HubCorpusConfig) -> list[Source]:
    """One source per data set, whose files are fetched when they are read. Raises `UserError` for
    what the hub does not have or does not give, and where no text to train on is left."""
    datasets = corpus.chosen()
    if all(dataset.role == "held_out" for dataset in datasets):
        raise UserError(
            f"data.corpus.datasets={[one.domain_name for one in datasets]} leaves nothing to train "
            f"on; add 'data.corpus.datasets=[{{repo: owner/name, text_field: text}}]', or choose "
            f"data/corpus=hub_paper"
        )
    return [_source(dataset, corpus) for dataset in datasets]


def _source(dataset: HubDataset, corpus: HubCorpusConfig) -> Source:
    path, listing = listed(dataset, corpus)
    _check_columns(dataset, listing)
    chosen = within_limits(listing.files, dataset)
    files = [listing.files[index] for index in chosen]
    here = folder(corpus)
    reader, reader_name = reader_of(dataset)
    return Source(
        name=dataset.domain_name,
        role=dataset.role,
        component=dataset.component,
        files=tuple(here / file.path for file in files),
        reader=reader,
        reader_name=reader_name,
        content=tuple(file.sha for file in files),
        sizes=tuple(file.size for file in files),
        fetch=HubFetch(
            listing=path,
            chosen=None if len(files) == len(listing.files) else tuple(chosen),
            folder=here,
            keep=corpus.keep_downloads,
            patience=Patience.of(corpus),
        ),
        expansion=_expansion(dataset, listing),
        license=dataset.license or listing.license,
        max_bad_share=corpus.max_bad_share,
        origin=f"hf://datasets/{dataset.repo}@{listing.commit}",
    )


def _check_columns(dataset: HubDataset, listing: Listing) -> None:
    """Raises UserError for a column that is not there, before anything is fetched. A column may
    have others inside."""
    for key in ("text_field", "domain_field", "score_field"):
        name = getattr(dataset, key)
        inside = [column for column in listing.columns if f"{column}.".startswith(f"{name}.")]
        if listing.columns and name is not None and not inside:
            raise UserError(
                f"{dataset.repo} has no column {name!r}, which {key} names; "
                f"{nearest(name, listing.columns)}"
            )


def _expansion(dataset: HubDataset, listing: Listing) -> float:
    """Bytes of text for each byte of the files: of the text's column in the first, or as is usual
    for what is compressed so."""
    if dataset.text_field in listing.columns:
        whole = sum(stored for stored, _ in listing.columns.values())
        return listing.columns[dataset.text_field][1] / max(1, whole)
    return usual_expansion(listing.files[0].path)


def within_limits(files: tuple[HubFile, ...], dataset: HubDataset) -> list[int]:
    """Indices of the files that the limits leave, in order: drawn by the hashes of their names, so
    that they are from everywhere in a data set that is sorted. At least one."""
    drawn = sorted(range(len(files)), key=lambda index: text_hash(files[index].path))
    if dataset.limit_files is not None:
        drawn = drawn[: dataset.limit_files]
    if dataset.limit_gb is not None:
        left, chosen = dataset.limit_gb * 1e9, drawn[:1]
        left -= sum(files[index].size for index in chosen)
        for index in drawn[1:]:
            if (left := left - files[index].size) < 0:
                break
            chosen.append(index)
        drawn = chosen
    return sorted(drawn)
