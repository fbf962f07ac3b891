"""Corpora of any size for tests of the data recipe: see the README."""
