"""Corpora, a file each: where text comes from (`data.corpus`). A file that is added here is found;
`docs/extend.md` shows one. Those that come with glam are read by `glam.data`."""

from glam.config.corpora.base import (
    COMPONENTS,
    CORPORA,
    BadRecord,
    CorpusConfig,
    Fetch,
    Reader,
    Record,
    Role,
    Source,
)
from glam.config.registry import import_modules

import_modules(__name__, __path__)

__all__ = [
    "COMPONENTS",
    "CORPORA",
    "BadRecord",
    "CorpusConfig",
    "Fetch",
    "Reader",
    "Record",
    "Role",
    "Source",
]
