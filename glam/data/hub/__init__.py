"""Data sets of a hub as sources: listed once, each file fetched when it is read."""

from glam.data.hub.sources import hub_sources

__all__ = ["hub_sources"]
