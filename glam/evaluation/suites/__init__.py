"""Suites of tasks, a module or a folder each. One that is added here is found."""

from glam.config.registry import import_modules
from glam.evaluation.suites.base import SUITES, LoadedSuite, Suite

import_modules(__name__, __path__)

__all__ = ["SUITES", "LoadedSuite", "Suite"]
