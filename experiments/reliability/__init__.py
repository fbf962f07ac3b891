"""Runs that are killed, and mistakes that are put into the code."""
