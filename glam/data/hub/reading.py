"""How a data set's files are read: as files of the user's own are."""

import json
from dataclasses import asdict
from functools import partial

from glam.config import HubDataset, Reader
from glam.data.formats import Spec, records


def reader_of(dataset: HubDataset) -> tuple[Reader, str]:
    """The reader and its name, which is part of cache keys."""
    spec = Spec(
        text_field=dataset.text_field,
        domain_field=dataset.domain_field,
        score_field=dataset.score_field,
        text_key="text_field of data.corpus.datasets",
        domain_key="domain_field of data.corpus.datasets",
        score_key="score_field of data.corpus.datasets",
    )
    return partial(records, spec=spec), f"hub:{json.dumps(asdict(spec), sort_keys=True)}"
