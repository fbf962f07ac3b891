"""Corpora, a file each: where text comes from (`data.corpus`). A file that is added here is found;
`docs/extend.md` shows one. Those that come with glam are read by `glam.data`."""

from glam.config.corpora.base import CORPORA, CorpusConfig, Fetch, Reader, Role, Source
from glam.config.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["CORPORA", "CorpusConfig", "Fetch", "Reader", "Role", "Source"]
