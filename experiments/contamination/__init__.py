"""Overlap of generated text with evaluation items: see the README."""
